"""Nothing asks the network unless somebody asked for it."""

import socket

import pytest

from vitrail.cli.main import main


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Refuses every connection and every look-up of a name, and writes them down."""
    asked: list[tuple] = []

    def refuse(*given: object, **named: object) -> None:
        asked.append(given)
        raise OSError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def test_no_everyday_verb_asks_the_network(no_sockets, tmp_path):
    run = str(tmp_path / "run")
    tiny = ["depth=1", "dim=24", "heads=2", "mlp_dim=24", "patch=16"]
    settings = [word for one in tiny for word in ("--set", f"model.{one}")]
    data = "scenes:20,size=32x32"
    train = ["train", "vit-tiny-16", "--data", data, "--out", run, "--epochs", "1", "--workers", "0", *settings]
    assert main(train) == 0
    assert main(["evaluate", run, "--data", data, "--workers", "0"]) == 0
    assert main(["info", run]) == 0
    assert main(["info", "vit-tiny-16"]) == 0
    assert main(["models"]) == 0
    assert main(["doctor"]) == 0
    assert not no_sockets


def test_the_refusal_is_noticed(no_sockets):
    with pytest.raises(OSError, match="the network was asked"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    assert no_sockets
