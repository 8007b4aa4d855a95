"""BERT answers as transformers' BERT does, with every head, from the folders that it writes and back into them.

Where padding stands before a text, transformers goes on counting positions through it, and reads its pooled token from
it. Here padding never changes an answer; so in those tests transformers is told the positions.
"""

import json
import re

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.core.words import places
from vitrail.errors import CheckpointError, ConfigError, VitrailError
from vitrail.loading import create_model, from_pretrained, save_pretrained

SIZES = {
    "vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40,
    "max_position_embeddings": 20,
}  # fmt: skip
ODD = [
    {},
    {"num_attention_heads": 1, "num_hidden_layers": 1, "type_vocab_size": 3, "layer_norm_eps": 1e-3},
    {"num_attention_heads": 12, "hidden_act": "gelu_new", "vocab_size": 5},
    {"hidden_act": "relu", "intermediate_size": 7, "max_position_embeddings": 9},
]
CLASSES = {"BertForSequenceClassification": 5, "BertForTokenClassification": 3}
KINDS = [
    "BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification",
    "BertForTokenClassification", "BertForQuestionAnswering",
]  # fmt: skip
PRECISE = pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])


def reference(kind: str, **config) -> torch.nn.Module:
    """A tiny random BERT of transformers."""
    labels = {"num_labels": CLASSES[kind]} if kind in CLASSES else {}
    return disturbed(getattr(transformers, kind)(transformers.BertConfig(**(SIZES | labels | config))))


def padded(config: transformers.PretrainedConfig, side: str = "right") -> dict[str, torch.Tensor]:
    """Sentences of 9, 4 and 1 word pieces beside each other, in transformers' words."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(config.vocab_size, (3, 9), generator=draw)
    segments = torch.randint(config.type_vocab_size, (3, 9), generator=draw)
    valid = torch.arange(9) < torch.tensor([[9], [4], [1]])
    if side == "left":
        valid = valid.flip(1)
    if side == "both":
        valid = torch.stack([torch.ones(9), torch.eye(9)[4], torch.eye(9)[3:6].sum(0)]).bool()
    return {"input_ids": ids, "attention_mask": valid.long(), "token_type_ids": segments, "position_ids": places(valid)}


def ours_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Our answer to the same."""
    return model(inputs["input_ids"], inputs["attention_mask"].bool(), inputs["token_type_ids"])


def logits_of(answer) -> torch.Tensor:
    """What transformers calls differently for each head."""
    if "start_logits" in answer:
        return torch.stack([answer.start_logits, answer.end_logits], dim=-1)
    for name in ("prediction_logits", "logits", "pooler_output"):
        if name in answer:
            return answer[name]
    raise AssertionError(list(answer))


def real(logits: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Those at real word pieces, of logits that each word piece has."""
    return logits[inputs["attention_mask"].bool()] if logits.ndim == 3 else logits


@PRECISE
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", ODD, ids=str)
def test_a_bert_answers_as_transformers_does(tmp_path, kind, config, precise):
    theirs = reference(kind, **config)
    theirs = theirs.double() if precise else theirs
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config)

    with torch.no_grad():
        agree(real(ours_of(ours, inputs), inputs), real(logits_of(theirs(**inputs)), inputs), precise)
        ids = inputs["input_ids"]
        agree(ours(ids), logits_of(theirs(input_ids=ids)), precise)


@PRECISE
@pytest.mark.parametrize("side", ["left", "both"])
@pytest.mark.parametrize("kind", KINDS)
def test_padding_may_stand_before_a_text(tmp_path, kind, side, precise):
    theirs = reference(kind).double() if precise else reference(kind)
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config, side)

    with torch.no_grad():
        answer = ours_of(ours, inputs)
        for row, valid in enumerate(inputs["attention_mask"].bool()):
            alone = {name: inputs[name][row : row + 1, valid] for name in ("input_ids", "token_type_ids")}
            there = logits_of(theirs(**alone))[0]
            agree(answer[row][valid] if answer.ndim == 3 else answer[row], there, precise)
        if answer.ndim == 3:  # all real tokens in one call, told the positions
            agree(real(answer, inputs), real(logits_of(theirs(**inputs)), inputs), precise)


@PRECISE
def test_both_halves_of_the_pretraining_agree(tmp_path, precise):
    theirs = reference("BertForPreTraining")
    theirs = theirs.double() if precise else theirs
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config)

    with torch.no_grad():
        tokens = ours.encode(inputs["input_ids"], inputs["attention_mask"].bool(), inputs["token_type_ids"])
        agree(ours.follows(tokens), theirs(**inputs).seq_relationship_logits, precise)


@PRECISE
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_loss_of_hidden_words_agrees(tmp_path, side, precise):
    theirs = reference("BertForMaskedLM").double() if precise else reference("BertForMaskedLM")
    ours = load(saved(theirs, tmp_path))
    inputs = padded(theirs.config, side)
    hidden = (torch.arange(9) % 2 == 0) & inputs["attention_mask"].bool()
    labels = inputs["input_ids"].masked_fill(~hidden, -100)

    with torch.no_grad():
        tokens = ours.encode(inputs["input_ids"], inputs["attention_mask"].bool(), inputs["token_type_ids"])
        loss = F.cross_entropy(ours.missing(tokens.x[hidden]), labels[hidden])
        there = theirs(**inputs, labels=labels).loss  # in float32, whatever the logits are
        agree(loss.to(there.dtype), there, precise=False)
        if precise:
            scores = theirs(**inputs).logits
            agree(loss, F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100), precise)


@PRECISE
def test_the_losses_of_classes_tags_and_answers_agree(tmp_path, precise):
    """That of answers without padding: in transformers an answer may begin in padding, and the loss counts it."""
    rows = torch.arange(3)
    for kind in KINDS[3:]:
        theirs = reference(kind).double() if precise else reference(kind)
        ours = load(saved(theirs, tmp_path / kind))
        inputs = padded(theirs.config)
        if kind == "BertForQuestionAnswering":
            inputs["attention_mask"] = torch.ones(3, 9, dtype=torch.long)
            inputs["position_ids"] = torch.arange(9)[None]
        valid = inputs["attention_mask"].bool()
        with torch.no_grad():
            answer = ours_of(ours, inputs)
            if kind == "BertForQuestionAnswering":
                begin, end = torch.tensor([2, 0, 0]), torch.tensor([5, 3, 0])
                loss = (F.cross_entropy(answer[..., 0], begin) + F.cross_entropy(answer[..., 1], end)) / 2
                there = theirs(**inputs, start_positions=begin, end_positions=end).loss
            elif kind == "BertForTokenClassification":
                labels = (inputs["input_ids"] % 3).masked_fill(~valid, -100)
                loss = F.cross_entropy(answer.flatten(0, 1), labels.flatten(), ignore_index=-100)
                there = theirs(**inputs, labels=labels).loss
            else:
                loss = F.cross_entropy(answer, rows)
                there = theirs(**inputs, labels=rows).loss
            agree(loss, there.to(loss.dtype), precise)


def test_several_labels_at_once_stand_in_the_card_and_come_back(tmp_path):
    theirs = reference("BertForSequenceClassification", problem_type="multi_label_classification")
    theirs.config.id2label = {number: f"kind {number}" for number in range(5)}
    ours = load(saved(theirs, tmp_path / "a"))

    assert ours.card.multi_label
    assert ours.card.labels == tuple(f"kind {number}" for number in range(5))
    save_pretrained(ours, tmp_path / "b", format="transformers", announce=quiet)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "b")
    assert again.config.problem_type == "multi_label_classification"
    assert again.config.id2label == theirs.config.id2label


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", ODD[:2], ids=str)
def test_a_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, kind, config):
    theirs = reference(kind, **config)
    before = saved(theirs, tmp_path / "before")

    heard = []
    save_pretrained(load(before), tmp_path / "after", format="transformers", announce=heard.append)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    auto = re.search(r"transformers\.(\w+)\.from_pretrained", heard[-1])[1]
    again, told = getattr(transformers, auto).from_pretrained(tmp_path / "after", output_loading_info=True)
    assert type(again) is type(theirs)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    inputs = padded(theirs.config)
    agree(logits_of(again.eval()(**inputs)), logits_of(theirs(**inputs)), precise=False)


@pytest.mark.parametrize("kind", ["BertModel", "BertForTokenClassification"])
def test_an_encoder_with_and_without_pooler_is_read_and_written(tmp_path, kind):
    theirs = disturbed(transformers.BertModel(transformers.BertConfig(**SIZES), add_pooling_layer=False))
    if kind != "BertModel":  # older versions wrote the pooler beside a head that does not read it
        theirs = reference(kind)
        theirs.bert.pooler = disturbed(transformers.BertModel(theirs.config)).pooler
    before = saved(theirs, tmp_path / "before")
    ours = load(before)

    assert ours.config.pooler == (kind != "BertModel")
    inputs = padded(theirs.config)
    there = theirs(**inputs)
    there = there.last_hidden_state[:, 0] if kind == "BertModel" else there.logits
    agree(real(ours_of(ours, inputs), inputs), real(there, inputs), precise=False)
    save_pretrained(ours, tmp_path / "after", format="transformers", announce=quiet)
    assert load_file(tmp_path / "after" / "model.safetensors").keys() == load_file(before / "model.safetensors").keys()


def old(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same in the spelling of 2018, with what was written twice then."""
    words, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
    tensors |= {"cls.predictions.decoder.weight": words.clone(), "cls.predictions.decoder.bias": bias.clone()}
    tensors["bert.embeddings.position_ids"] = torch.arange(20)[None]
    spell = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, name in spell.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    return tensors


def test_a_file_of_2018_is_read(tmp_path):
    """As google-bert/bert-base-uncased: gamma and beta, tied tensors twice, both heads under the name of one."""
    theirs = reference("BertForPreTraining")
    path = saved(theirs, tmp_path) / "model.safetensors"
    save_file(old(load_file(path)), path, {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertForMaskedLM"]}))

    ours = load(tmp_path)

    inputs = padded(theirs.config)
    agree(real(ours_of(ours, inputs), inputs), real(theirs(**inputs).prediction_logits, inputs), precise=False)
    assert ours.config.next_sentence
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": None}))
    agree(
        ours_of(load(tmp_path), inputs), ours_of(ours, inputs), precise=True
    )  # nothing but model_type says what it is


def test_a_folder_that_names_the_encoder_alone_may_hold_its_heads(tmp_path):
    theirs = reference("BertForPreTraining")
    folder = saved(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    heard = []

    ours = from_pretrained(folder, announce=heard.append)

    inputs = padded(theirs.config)
    agree(ours_of(ours, inputs), theirs.bert(**inputs).pooler_output, precise=False)
    assert any(
        said.startswith("Left out cls.") and said.endswith("config.json names the encoder alone.") for said in heard
    )


def test_an_output_that_is_not_the_words_is_refused(tmp_path):
    path = saved(reference("BertForMaskedLM"), tmp_path) / "model.safetensors"
    tensors = load_file(path)
    other = tensors["bert.embeddings.word_embeddings.weight"] + 1
    save_file(tensors | {"cls.predictions.decoder.weight": other}, path, {"format": "pt"})

    with pytest.raises(CheckpointError, match="are one tensor in this model, and differ"):
        load(tmp_path)


def test_a_bare_file_takes_from_its_size_what_it_does_not_tell(tmp_path):
    theirs = reference("BertForMaskedLM")
    torch.save(theirs.state_dict(), tmp_path / "bert.pt")
    heard = []

    ours = from_pretrained(
        tmp_path / "bert.pt", format="transformers", model="bert-mini", heads=4, announce=heard.append
    )

    inputs = padded(theirs.config)
    agree(real(ours_of(ours, inputs), inputs), real(theirs(**inputs).logits, inputs), precise=False)
    assert any("has no tokenizer: the model reads ids" in said for said in heard)


def test_a_pretrained_encoder_gets_another_head(tmp_path):
    theirs = reference("BertForPreTraining")
    folder = saved(theirs, tmp_path)
    inputs = padded(theirs.config)
    heard = []

    ours = from_pretrained(folder, classes=4, announce=heard.append)

    assert (ours.config.head, ours.card.task) == ("classify", "classify")
    assert ours_of(ours, inputs).shape == (3, 4)
    agree(ours.pool(ours.encode(inputs["input_ids"])), theirs.bert(inputs["input_ids"]).pooler_output, precise=False)
    assert "new: head.weight (4, 24), head.bias (4,); left out: " in heard[-1]
    assert ours_of(load(folder, head="answer"), inputs).shape == (3, 9, 2)
    tagger = load(folder, head="tag", classes=6)
    assert ours_of(tagger, inputs).shape == (3, 9, 6)
    assert (tagger.card.task, tagger.config.pooler) == ("tag", False)


@pytest.mark.parametrize(
    ("changes", "pooled"),
    [
        ({}, True),
        ({"head": "masked-lm"}, False),
        ({"head": "masked-lm", "next_sentence": True}, True),
        ({"classes": 2}, True),
        ({"head": "tag", "classes": 2}, False),
        ({"head": "answer"}, False),
    ],
)
def test_every_number_of_a_fresh_model_learns(changes, pooled):
    model = create_model("bert-tiny", vocabulary=50, depth=1, **changes)
    assert model.config.pooler == pooled
    ids = torch.randint(50, (2, 7))
    loss = model(ids).square().mean()
    if model.config.next_sentence:
        loss = loss + model.follows(model.encode(ids)).square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_encoder_without_pooler_gets_a_new_one_for_classes(tmp_path):
    heard = []
    folder = saved(reference("BertForMaskedLM"), tmp_path)

    ours = from_pretrained(folder, classes=2, announce=heard.append)

    assert ours.config.pooler
    assert "new: pooler.weight" in heard[-1]
    assert load(folder, head="none").config.classes == 0


def test_a_folder_of_ours_comes_back_with_its_head(tmp_path):
    ours = create_model("bert-tiny", vocabulary=50, depth=1, head="masked-lm")
    save_pretrained(ours, tmp_path, announce=quiet)
    ids = torch.randint(50, (2, 7))
    again = load(tmp_path)
    agree(again(ids), ours.eval()(ids), precise=False)
    assert again.card == ours.card


@pytest.mark.parametrize(
    ("kind", "field", "value", "sentence"),
    [
        ("BertModel", "is_decoder", True, "is_decoder=True is not supported. Supported: False"),
        ("BertModel", "add_cross_attention", True, "add_cross_attention=True is not supported"),
        ("BertModel", "position_embedding_type", "relative_key", "position_embedding_type='relative_key' is not"),
        ("BertModel", "pruned_heads", {"0": [1]}, "pruned_heads={'0': [1]} is not supported"),
        ("BertModel", "hidden_act", "tanh", "hidden_act='tanh' is not supported. Supported: gelu"),
        ("BertModel", "hidden_size", 48, "it says dim=48, and the weights have 24"),
        ("BertModel", "max_position_embeddings", 64, "it says max_tokens=64, and the weights have 20"),
        ("BertModel", "vocab_size", 99, "it says vocabulary=99, and the weights have 37"),
        ("BertModel", "num_attention_heads", 5, "does not divide into heads=5"),
        ("BertModel", "num_attention_heads", "four", "heads='four' is not a whole number"),
        ("BertForMaskedLM", "tie_word_embeddings", False, "tie_word_embeddings=False is not supported"),
        ("BertForSequenceClassification", "problem_type", "regression", "answer a number"),
        ("BertForQuestionAnswering", "id2label", {"0": "a"}, "num_labels=1, and an answer has 2"),
        ("BertForTokenClassification", "id2label", {"0": "a"}, "it says classes=1, and the weights have 3"),
    ],
)
def test_a_config_that_would_answer_otherwise_is_a_sentence(tmp_path, kind, field, value, sentence):
    folder = saved(reference(kind), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))

    with pytest.raises(VitrailError, match=re.escape(sentence)):
        load(folder)


def test_what_makes_no_difference_to_an_answer_is_read(tmp_path):
    theirs = reference("BertForMaskedLM")
    folder = saved(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    free = {"chunk_size_feed_forward": 3, "position_embedding_type": "absolute", "gradient_checkpointing": True}
    (folder / "config.json").write_text(json.dumps(config | free | {"use_cache": False, "pruned_heads": {}}))
    inputs = padded(theirs.config)
    agree(real(ours_of(load(folder), inputs), inputs), real(theirs(**inputs).logits, inputs), precise=False)


def test_what_a_bert_cannot_read_is_a_sentence():
    model = create_model("bert-tiny", vocabulary=50, depth=1, max_tokens=8).eval()
    with pytest.raises(ConfigError, match="The text has 9 word pieces, and the model reads at most 8"):
        model(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ConfigError, match="There is no word piece 50: this model has 50, numbered from 0"):
        model(torch.tensor([[1, 50]]))
    with pytest.raises(ConfigError, match="There is no word piece -1"):
        model(torch.tensor([[1, -1]]))
    with pytest.raises(ConfigError, match="There is no segment 2: this model has 2"):
        model(torch.tensor([[1, 2]]), segments=torch.tensor([[0, 2]]))
    with pytest.raises(ConfigError, match=r"head='none'\. For hidden words, use head='masked-lm'"):
        model.missing(torch.zeros(2, 128))
    with pytest.raises(ConfigError, match="next_sentence=True"):
        model.follows(model.encode(torch.tensor([[1, 2]])))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"head": "tag"}, "head='tag' tells classes apart, and classes=0"),
        ({"head": "answer", "classes": 3}, "classes=3 needs head='classify'"),
        ({"classes": 3, "pooler": False}, "head='classify' reads the pooled token, and pooler=False"),
        ({"dim": 100, "heads": 3}, "dim=100 does not divide into heads=3"),
        ({"head": "poem"}, "head='poem' is not one of 'none', 'masked-lm'"),
        ({"vocabulary": 0}, "vocabulary=0 must be at least 1"),
    ],
)
def test_a_bert_that_makes_no_sense_is_a_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        create_model("bert-tiny", **changes)
