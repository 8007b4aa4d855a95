"""In training, chance falls where it falls in transformers: told by a dropout that takes the same from every value."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from parity.references import agree, disturbed, load, saved
from parity.test_detr import build as detr
from parity.test_marian import marian

PICTURES = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "image_size": 32,
    "patch_size": 8, "num_labels": 7, "attention_probs_dropout_prob": 0.2,
}  # fmt: skip
TEXTS = {"vocab_size": 30, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40, "num_labels": 3,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.3,
}  # fmt: skip
GPT = {"n_embd": 24, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.1, "attn_pdrop": 0.2, "embd_pdrop": 0.3}
RATES = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}


def even(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Take from every value what dropout takes from some of them, so that both libraries drop the same."""
    return x * (1 - p) if training else x


@pytest.fixture(autouse=True)
def even_dropout(monkeypatch) -> None:
    """Both libraries drop through torch's function, which is an even one here."""
    monkeypatch.setattr(F, "dropout", even)
    monkeypatch.setattr("torch.jit.is_tracing", lambda: True)  # ours draws by itself otherwise


def reference(name: str) -> Any:
    """A tiny random model of transformers, with another rate at each place where one can be set."""
    kinds = {
        "vit": (transformers.ViTForImageClassification, PICTURES | {"hidden_dropout_prob": 0.1}),
        "deit": (transformers.DeiTForImageClassification, PICTURES | {"hidden_dropout_prob": 0.1}),
        "dinov2": (transformers.Dinov2ForImageClassification, PICTURES | {"hidden_dropout_prob": 0.1}),  # and no branch
        "bert": (transformers.BertForSequenceClassification, TEXTS | BERT),
        "bert-tags": (transformers.BertForTokenClassification, TEXTS | BERT),
        "gpt": (transformers.GPT2LMHeadModel, TEXTS | GPT),
    }
    if name == "marian":
        model = marian(**RATES)
    elif name == "detr":
        model = detr(**RATES)
        model.model.encoder.dropout = 0.0  # of the map itself, which the published code does not drop
    else:
        kind, config = kinds[name]
        model = disturbed(kind(kind.config_class(**config)))
    model.set_attn_implementation("eager")  # the fused one drops inside torch
    return model


def learning(model: nn.Module) -> nn.Module:
    """The same model in training, but for its batch norms, which DETR freezes."""
    model.train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return model


def inputs(name: str) -> dict[str, Tensor]:
    if name in ("vit", "deit", "dinov2", "detr"):
        return {"pixel_values": torch.rand(2, 3, 32, 32)}
    words = {"input_ids": torch.randint(3, 20, (2, 9))}
    return words | {"decoder_input_ids": torch.randint(3, 20, (2, 7))} if name == "marian" else words


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2", "bert", "bert-tags", "gpt", "marian", "detr"])
def test_chance_falls_where_it_does_in_transformers(tmp_path, name):
    theirs, given = reference(name), inputs(name)
    told = {"backbone": {"padding": "original"}} if name == "detr" else {}
    ours = load(saved(theirs, tmp_path), **told)
    with torch.no_grad():
        still = theirs(**given).logits
        dropped, answer = learning(theirs)(**given).logits, learning(ours)(*given.values())
    assert not torch.allclose(dropped, still, rtol=1e-2)
    agree(getattr(answer, "logits", answer), dropped, precise=False)
