"""The command line: what each verb understands, what it costs to ask, and how it ends."""

import functools
import inspect
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from vitrail.catalog import RECIPES
from vitrail.cli import main as cli
from vitrail.cli import screen, usage
from vitrail.cli.flags import each_set
from vitrail.cli.main import EVERY_VERB, VERBS, find, main
from vitrail.errors import VitrailError

ROOT = Path(__file__).parents[2]
FLAGS = {
    "check": "--data --json --draw",
    "train": "--data --init --out --epochs --batch --seed --workers --device --set --dry-run --overfit",
    "resume": "--workers --device",
    "evaluate": "--data --split --out --batch --workers --nms --device --json",
    "predict": "--top --features --prompt --context --analogy --beam --tokens --temperature --top-p --top-k --seed"
    " --threshold --nms --tile --overlap --out --json --csv --yolo --batch --device",
    "explain": "--method --at --query --layer --head --word --of --context --target --faithful --positions --queries"
    " --top --threshold --data --out --device",
    "models": "--json",
    "info": "--set --flow --json",
    "convert": "--from --to --model --set",
    "benchmark": "--data --model --out --batch --workers --device --json",
    "doctor": "--json",
    "demo": "--out",
}
HEAVY = {"torch", "numpy", "PIL", "huggingface_hub", "matplotlib"}


def understood(command: str) -> dict:
    """What a command line is taken to mean, without doing it."""
    verb, *words = shlex.split(command)
    meaning = functools.wraps(find(verb))(lambda *given, **named: named)
    return tyro.cli(meaning, args=each_set(words), config=EVERY_VERB)


def commands_in(page: Path) -> list[str]:
    """What the code blocks of a page tell a reader to type after `vitrail`."""
    blocks = re.findall(r"^```(?:bash|console|sh)?\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    typed = (line.split(" > ")[0].split("  #")[0] for line in lines if line.startswith("vitrail "))
    return [command.removeprefix("vitrail ") for command in typed]


@pytest.fixture
def verb_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Runs a verb that ends in an error, and gives the exit code."""

    def run(error: BaseException) -> int:
        def fail() -> None:
            """Do nothing but fail."""
            raise error

        monkeypatch.setattr(cli, "find", lambda verb: fail)
        return main(["fail"])

    return run


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_these_flags_and_no_others(verb, capsys):
    assert main([verb, "--help"]) == 0
    listed = re.findall(r"^[│|]? {1,2}(?:-h, )?(--[a-z][a-z-]*)", capsys.readouterr().out, flags=re.MULTILINE)
    assert listed == ["--help", *FLAGS[verb].split()]


@pytest.mark.parametrize("verb", VERBS)
def test_every_argument_of_a_verb_is_explained(verb):
    function = find(verb)
    explained = re.findall(r"^ {4}(\w+):", inspect.getdoc(function) or "", flags=re.MULTILINE)
    assert explained == [name for name in function.__annotations__ if name != "return"]


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_asking_for_help_imports_no_torch_and_no_other_verb(words):
    program = (
        "import sys; from vitrail.cli.main import main; code = main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    answer = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    loaded = set(answer.stderr.split())
    assert answer.returncode == 0
    assert not HEAVY & loaded
    assert {f"vitrail.cli.{verb}" for verb in VERBS} & loaded <= {f"vitrail.cli.{word}" for word in words}


def test_vitrail_alone_says_what_there_is(capsys):
    assert main([]) == 0
    assert set(VERBS) <= set(capsys.readouterr().out.split())


def test_help_may_be_asked_for_either_way(capsys):
    assert main(["help", "doctor"]) == 0
    asked = capsys.readouterr().out
    assert main(["doctor", "--help"]) == 0
    assert capsys.readouterr().out == asked
    assert main(["help"]) == 0
    assert set(VERBS) <= set(capsys.readouterr().out.split())


def test_models_are_found_by_part_of_a_name(capsys):
    assert main(["models", "base-16"]) == 0
    part = capsys.readouterr().out
    assert main(["models", "*base-16*"]) == 0
    assert capsys.readouterr().out == part
    assert "vit-base-16-384" in part


def test_recipes_are_listed_beside_models(capsys):
    assert main(["models", "bert-mini*"]) == 0
    assert {"bert-mini", "bert-mini-mlm", "bert-mini-classify"} <= set(capsys.readouterr().out.split())
    assert main(["models", "bert-mini*", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line.get("model") for line in listed} == {"bert-mini", None}
    assert {"recipe": "bert-mini-mlm", "about": RECIPES["bert-mini-mlm"].sentence, "data": ["language"]} in listed
    assert main(["models", "mlm"]) == 0
    assert "bert-mini " not in capsys.readouterr().out


def test_an_unknown_verb_says_which_was_meant(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.startswith("vitrail: There is no verb called 'trian'. Did you mean train")


def test_an_unknown_flag_is_a_usage_error_that_names_the_right_one(capsys):
    assert main(["doctor", "--jsn"]) == 2
    assert "Did you mean --json?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("check shapes", "shapes needs --data in front of it. Type: vitrail check --data shapes"),
        ("check 'my shapes' --json", "Type: vitrail check --json --data 'my shapes'"),
        ("check", "`vitrail check` needs --data PATH. Type: vitrail check --data PATH"),
        ("check --data", "--data stands alone. Type what it should be: --data PATH"),
        ("check a b", "`vitrail check` takes options only; 'a' is a word too many."),
        ("evaluate runs/x", "also needs --data PATH. Type: vitrail evaluate runs/x --data PATH"),
        ("convert R", "`vitrail convert` also needs OUT. Type: vitrail convert R OUT"),
        ("convert R --to timm", "Type: vitrail convert R OUT --to timm"),
        ("predict", "`vitrail predict` needs RUN and PICTURE|TEXT. Type: vitrail predict RUN PICTURE|TEXT ..."),
        ("predict R a.png --top", "--top stands alone. Type what it should be: --top N"),
        ("train", "`vitrail train` needs MODEL and --data PATH. Type: vitrail train MODEL --data PATH"),
        ("train m --data x --set data.batch 16", "without spaces: --set data.batch=16"),
        ("train m --data x --set a=1 data.batch 16", "`vitrail train` takes MODEL; 'data.batch' is a word too many."),
        ("train m --data x --dry_runn", "There is no option --dry_runn. Did you mean --dry-run?"),
        ("info a b", "`vitrail info` takes SOURCE; 'b' is a word too many. `vitrail info --help` tells the rest."),
        (
            "explain R x.png --method atention",
            "takes attention, rollout, relevance, attribution or gradient, not 'atention'.",
        ),
        ("explain R x.png --positions --heads", "are about the model: leave out the picture"),
        ("explain R --positions --heads", "--positions is about the model, and --heads would say nothing beside it"),
        ("explain R --positions --faithful", "and --faithful would say nothing beside it"),
        ("explain R --positions --method rollout --at 1 2", "and --at and --method would say nothing beside it"),
        ("explain R --heads --target cat --layers 3", "--heads is about the model, and --layers and --target would"),
        (
            "explain R x.png --data shapes",
            "--data is for --heads alone, without a picture, and for --queries: leave it out.",
        ),
        ("explain R 'a b' --of memory", "--of takes cross, encoder or decoder, not 'memory'."),
        ("explain R x.png --at 5.5 3", "--at takes two whole numbers, x then y, such as 410 37, not '5.5 3'."),
        ("doctor --json=yes", "--json takes nothing after it. Type --json alone."),
        ("predict R --analogy king man", "--analogy takes A B C: 3 words, not 2 words (king man)."),
        ("predict R a b --top 1 --top 2", "--top stands there twice, and counts once. Type --top 2, for example."),
        ("explain R x.png --layer 1 --layers 3 4", "Type --layers 1 3 4, for example."),
        ("train m --data x --lr 0.1", "There is no option --lr. Did you mean --set optimiser.rate=1e-4?"),
        ("predict m a.jpg --conf 0.3", "There is no option --conf. Did you mean --threshold?"),
        ("evaluate m --data x --conf 0.3", "There is no option --conf. Did you mean --threshold of `vitrail predict`?"),
        ("doctor --lr 0.1", "There is no option --lr. Did you mean --set optimiser.rate=1e-4 of `vitrail train`?"),
        ("doctor --beem 4", "There is no option --beem. `vitrail doctor --help` lists all there are."),
        ("doctor -x", "There is no option -x. `vitrail doctor --help` lists all there are."),
    ],
)
def test_what_means_nothing_is_one_sentence_that_says_what_to_type(command, sentence, capsys):
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.startswith("vitrail: ")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_help_says_how_layers_are_counted_and_drawn_and_which_pictures_heads_are_measured_on(capsys):
    main(["explain", "--help"])
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert "or from the end (-1), or all; several are drawn in the model's order" in told
    assert "those that `vitrail evaluate` judges the run by: the part val of what it has learned from, or else" in told


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_takes_is_read_off_its_signature_as_its_help_says(verb, capsys):
    places, flags = usage.takes(find(verb))
    main([verb, "--help"])
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert all(place.shown in told for place in places)
    for name, flag in flags.items():
        takes = f"{{{','.join(flag.choices)}}}" if flag.choices else flag.takes
        assert f"{name} {takes}".rstrip() in told


def test_a_mistake_of_a_person_is_one_sentence(verb_that, capsys):
    assert verb_that(VitrailError("heads=5 is wrong.")) == 1
    assert capsys.readouterr().err == "vitrail: heads=5 is wrong.\n"


def test_a_file_that_cannot_be_written_is_a_mistake_of_a_person(verb_that, capsys):
    assert verb_that(PermissionError(13, "Permission denied", "/out")) == 1
    assert capsys.readouterr().err == "vitrail: /out: Permission denied.\n"


def test_a_mistake_of_ours_says_where_the_traceback_is(verb_that, capsys):
    assert verb_that(ZeroDivisionError("division by zero")) == 3
    message = capsys.readouterr().err
    assert "Traceback" not in message
    kept = Path(re.search(r"written in (\S+);", message).group(1))
    assert "in fail\n    raise error" in kept.read_text()
    kept.unlink()


def test_ctrl_c_ends_with_130(verb_that):
    assert verb_that(KeyboardInterrupt()) == 130


def test_an_error_may_name_its_exit_code(verb_that):
    error = VitrailError("Stopped by SIGTERM after saving.")
    error.exit_code = 143
    assert verb_that(error) == 143


def test_a_reader_who_has_seen_enough_is_no_error():
    program = [sys.executable, "-m", "vitrail", "models", "--json"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_command_in_the_manual_is_understood(page):
    for command in commands_in(page):
        if not command.startswith("--"):
            understood(command)


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        ("train vit-small-16 --data flowers5/", {"model": "vit-small-16", "data": "flowers5/", "set": ()}),
        (
            "train vit-small-16 --data x --set optimiser.rate=1e-4 --set data.batch=8 --dry-run",
            {"set": ("optimiser.rate=1e-4", "data.batch=8"), "dry_run": True},
        ),
        (
            "predict runs/classify/flowers5 rose.jpg more/",
            {"run": "runs/classify/flowers5", "images": ["rose.jpg", "more/"]},
        ),
        (
            "explain RUN rose.jpg --at 410 37 --layer 11",
            {"image": "rose.jpg", "at": ((410, 37),), "layers": (10,), "heads": None},  # people count from 1
        ),
        (
            "explain RUN cat.jpg --at 410 37 --at 20 400 --layers 3 6 9 12 --heads all",
            {"at": ((410, 37), (20, 400)), "layers": (2, 5, 8, 11), "heads": "all", "method": "attention"},
        ),
        ("explain RUN cat.jpg --head 2 --layers -1 last", {"heads": 1, "layers": (-1, "last")}),
        ("explain RUN cat.jpg --head -1 --layers all", {"heads": -1, "layers": ("*",)}),
        ("explain RUN --heads", {"heads": "each", "image": None}),
        (
            "explain RUN 'the cat sat' --word the:2 --of encoder --heads mean",
            {"image": "the cat sat", "word": "the:2", "of": "encoder", "heads": "mean"},
        ),
        ("explain RUN --positions", {"positions": True, "image": None}),
        (
            "explain RUN cat.jpg --method relevance --target tabby --faithful",
            {"method": "relevance", "target": "tabby", "faithful": True, "at": (), "layers": ()},
        ),
        (
            "convert FILE --from torchvision --model vit-tiny-16 --set patch=2 OUT",
            {"source": "FILE", "out": "OUT", "from_": "torchvision", "set": ("patch=2",), "to": "vitrail"},
        ),
        ("models 'vit*'", {"pattern": "vit*"}),
        ("info vit-base-16 --set image=384", {"source": "vit-base-16", "set": ("image=384",)}),
        (
            "info vit-tiny-16 --set image=256 patch=1 --set=depth=2 heads=2 --json",
            {"source": "vit-tiny-16", "set": ("image=256", "patch=1", "depth=2", "heads=2"), "json": True},
        ),
        ("info --set image=256 patch=1 ./a=b", {"source": "./a=b", "set": ("image=256", "patch=1")}),
        (
            "convert FILE --from timm --model x --set patch=2 image=32 OUT",
            {"out": "OUT", "set": ("patch=2", "image=32")},
        ),
    ],
)
def test_commands_mean_what_they_say(command, meaning):
    assert understood(command).items() >= meaning.items()


def test_the_manual_is_searched_for_commands(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\nvitrail models 'vit*'  # all\nvitrail train x \\\n  --data y\n```\nvitrail not-this\n")
    assert [shlex.split(command) for command in commands_in(page)] == [
        ["models", "vit*"],
        ["train", "x", "--data", "y"],
    ]


def test_info_says_what_pixels_as_tokens_take(capsys):
    assert main(shlex.split("info vit-tiny-16 --set image=256 patch=1")) == 0
    rows = {line[:16].strip(): line[16:] for line in capsys.readouterr().out.splitlines()}
    assert rows["tokens"] == "65,537: 1 in front, and 256 x 256 patches (65,536)"
    assert rows["attention"] == (
        "4.3e9 pairs of tokens in each layer; to keep the weights of 3 heads takes 51.5 GB a picture for one layer, "
        "618 GB for all 12"
    )
    assert rows["with patch 16"].startswith("257: 1 in front, and 16 x 16 patches (256); 66,049 pairs")
    assert rows["with patch 16"].endswith(": 65,029 times fewer pairs")


def test_info_compares_with_other_patches_only_where_they_are_changed_and_fit(capsys):
    for changes in ("", "--set image=256", "--set image=20 patch=5"):
        assert main(shlex.split(f"info vit-tiny-16 {changes}")) == 0
        assert "with patch" not in capsys.readouterr().out


def info_lines(typed: str, capsys) -> list[str]:
    assert main(["info", *shlex.split(typed)]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_info_says_of_a_score_that_it_was_reached_before_set_changed_the_model(capsys):
    before = "scores before --set changed it: imagenet-top1 85.11 (timm"
    assert any(line.startswith("scores imagenet-top1 85.11 (timm") for line in info_lines("vit-base-16", capsys))
    for changes in ("image=384", "patch=8 image=224"):
        assert any(line.startswith(before) for line in info_lines(f"vit-base-16 --set {changes}", capsys))


def test_info_says_whose_preprocessing_it_tells_where_fresh_and_published_weights_differ(capsys):
    lines = info_lines("vit-base-16", capsys)
    fresh = next(number for number, line in enumerate(lines) if line.startswith("preprocessing of fresh weights: "))
    assert "mean 0.485, 0.456, 0.406" in lines[fresh]
    assert lines[fresh + 1].startswith("of --init default: shorter side to 248 ")
    assert "mean 0.5, 0.5, 0.5" in lines[fresh + 1]
    assert "of --init default, before --set changed it: " in " ".join(info_lines("vit-base-16 --set image=384", capsys))


def test_info_counts_one_channel_as_one(capsys):
    lines = info_lines("vit-tiny-16 --set channels=1", capsys)
    assert "reads 1 channel of 224 x 224 pixels (rows x columns)" in lines


def test_a_name_out_of_a_file_moves_no_cursor(capsys):
    screen.table(("picture", "shows"), [("a.jpg", "x\x1b[31mred\x9b2J\r, two\nlines and a\ttab")])
    told = capsys.readouterr().out
    assert "x\\x1b[31mred\\x9b2J\\r, two" in told
    assert not any(letter in told for letter in "\x1b\x9b\r")
