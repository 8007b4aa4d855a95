"""How transformers writes BERT down: encoder alone, and with each of the heads.

The last layer of the masked-language head is the embedding of the words: files hold it once, older ones twice. In old
files the norms are spelled gamma and beta, and an encoder within a head may have a pooler that the head does not read.
Compared with transformers in tests/parity/test_bert.py.

Source: transformers 5.23, `models/bert` (names, fields and their defaults).
"""

from typing import Any

from vitrail.errors import CheckpointError, ConfigError
from vitrail.models.bert import VARIANTS, WITH_CLASSES, Bert, BertConfig
from vitrail.models.family import Family, Format, Shapes, changed, one_text
from vitrail.models.foreign import (
    TRANSFORMERS_ACTIVATIONS,
    Fields,
    foreign_word,
    one_of,
    read_classes,
    refuse_number,
    refuse_others,
)
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.keymap import Again, Alias, Ignore, KeyMap, Rename, within

ENCODER = (
    Alias("{rest}.gamma", "{rest}.weight"),
    Alias("{rest}.beta", "{rest}.bias"),
    Rename("embeddings.word_embeddings.weight", "embed.words.weight"),
    Rename("embeddings.position_embeddings.weight", "embed.positions.weight"),
    Rename("embeddings.token_type_embeddings.weight", "embed.segments.weight"),
    Rename("embeddings.LayerNorm.{p}", "embed.norm.{p}"),
    Ignore("embeddings.position_ids", "they are counted from 0, here and in transformers"),
    Rename("encoder.layer.{i}.attention.self.query.{p}", "blocks.{i}.attention.query.{p}"),
    Rename("encoder.layer.{i}.attention.self.key.{p}", "blocks.{i}.attention.key.{p}"),
    Rename("encoder.layer.{i}.attention.self.value.{p}", "blocks.{i}.attention.value.{p}"),
    Rename("encoder.layer.{i}.attention.output.dense.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("encoder.layer.{i}.attention.output.LayerNorm.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Rename("encoder.layer.{i}.intermediate.dense.{p}", "blocks.{i}.mlp.expand.{p}"),
    Rename("encoder.layer.{i}.output.dense.{p}", "blocks.{i}.mlp.contract.{p}"),
    Rename("encoder.layer.{i}.output.LayerNorm.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Rename("pooler.dense.{p}", "pooler.{p}"),
)
MASKED = (
    Rename("cls.predictions.transform.dense.{p}", "head.transform.{p}"),
    Rename("cls.predictions.transform.LayerNorm.{p}", "head.norm.{p}"),
    Rename("cls.predictions.bias", "head.bias"),
    Again("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    Again("cls.predictions.decoder.bias", "cls.predictions.bias"),
    Rename("cls.seq_relationship.{p}", "next_sentence.{p}"),
)
CLASSIFIER = (Rename("classifier.{p}", "head.{p}"),)
ANSWER = (Rename("qa_outputs.{p}", "head.{p}"),)


def read_encoder(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """The fields that all of them have.

    Raises:
        ConfigError: a BERT that answers otherwise than the published one: a decoder, relative positions, fewer heads.
    """
    refuse_others(
        config, is_decoder=False, add_cross_attention=False, position_embedding_type="absolute", pruned_heads={}
    )
    return {
        "vocabulary": config.get("vocab_size", 30522),
        "max_tokens": config.get("max_position_embeddings", 512),
        "segments": config.get("type_vocab_size", 2),
        "dim": config.get("hidden_size", 768),
        "depth": config.get("num_hidden_layers", 12),
        "heads": config.get("num_attention_heads", 12),
        "mlp_dim": config.get("intermediate_size", 3072),
        "activation": one_of(TRANSFORMERS_ACTIVATIONS, config.get("hidden_act", "gelu"), "hidden_act"),
        "eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
        "head_dropout": config.get("classifier_dropout"),
        "pooler": any(name.endswith("pooler.dense.weight") for name in shapes),
    }


def write_encoder(config: BertConfig) -> dict[str, Any]:
    """A BertConfig of transformers, from ours."""
    return {
        "model_type": "bert",
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.max_tokens,
        "type_vocab_size": config.segments,
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": foreign_word(TRANSFORMERS_ACTIVATIONS, config.activation),
        "layer_norm_eps": config.eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "classifier_dropout": config.head_dropout,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
    }


def read_head(config: Fields, shapes: Shapes, head: str) -> dict[str, Any]:
    """The fields of a head.

    Raises:
        ConfigError: one that answers otherwise: numbers instead of classes, more than a beginning and an end, an
            output that is not the words' embedding.
    """
    if head == "masked-lm":
        refuse_others(config, tie_word_embeddings=True)
    rows, *_ = shapes.get("classifier.weight", (1,))
    if head in WITH_CLASSES:
        refuse_number(config, alone=head == "classify" and read_classes(config) == rows == 1)
    if head == "answer" and read_classes(config) != 2:
        raise ConfigError(f"num_labels={read_classes(config)}, and an answer has 2: where it begins and where it ends.")
    return {
        "head": head,
        "classes": read_classes(config) if head in WITH_CLASSES else 0,
        "next_sentence": head == "masked-lm" and "cls.seq_relationship.weight" in shapes,
    }


def bert(name: str, head: str, table: tuple, *, next_sentence: bool = False, guessed: bool = False) -> Format:
    """One of transformers' BERTs.

    Args:
        name: of its class.
        head: what ours has for it.
        table: its tensor names.
        next_sentence: whether this is how the second head of the pre-training is written.
        guessed: whether a config of type bert that names no class may be this one.
    """

    def misfits(config: BertConfig) -> list[str]:
        other = ["head"] if config.head != head else []
        return other + (["next_sentence"] if config.next_sentence != next_sentence else [])

    return Format(
        library="transformers",
        architectures=(name,),
        keymap=KeyMap(table),
        read_config=lambda config, shapes: read_encoder(config, shapes) | read_head(config, shapes, head),
        write_config=lambda config: write_encoder(config) | {"architectures": [name]},
        misfits=misfits,
        defaults={"eps": 1e-12, "head": head},
        model_type="bert" if guessed else "",
    )


NO_HEAD = (Ignore("cls.{rest}", "config.json names the encoder alone"),)
INSIDE = within("bert.", ENCODER)
HEAD_NORMS = (Alias("cls.{rest}.gamma", "cls.{rest}.weight"), Alias("cls.{rest}.beta", "cls.{rest}.bias"))
FORMATS = (
    bert("BertModel", "none", (Alias("bert.{rest}", "{rest}"), *ENCODER, *NO_HEAD), guessed=True),
    bert("BertForMaskedLM", "masked-lm", (*INSIDE, *HEAD_NORMS, *MASKED), guessed=True),
    bert("BertForPreTraining", "masked-lm", (*INSIDE, *HEAD_NORMS, *MASKED), next_sentence=True, guessed=True),
    bert("BertForSequenceClassification", "classify", (*INSIDE, *CLASSIFIER)),
    bert("BertForTokenClassification", "tag", (*INSIDE, *CLASSIFIER)),
    bert("BertForQuestionAnswering", "answer", (*INSIDE, *ANSWER)),
)


def infer_head(shapes: Shapes, guess: Fields, pooler: bool) -> dict[str, Any]:
    """Which head there is, and for how many classes; shapes do not tell those apart that are one linear layer."""
    if "head.transform.weight" in shapes:
        return {"head": "masked-lm", "classes": 0}
    if "head.weight" not in shapes:
        return {"head": "none", "classes": 0}
    outputs, head = shapes["head.weight"][0], guess["head"]
    if head == "answer" and outputs == 2:
        return {"head": "answer", "classes": 0}
    if head not in WITH_CLASSES:
        head = "classify" if pooler else "tag"
    return {"head": head, "classes": outputs}


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell about a configuration, given a guess at its fields."""
    words, expand = shapes.get("embed.words.weight"), shapes.get("blocks.0.mlp.expand.weight")
    if words is None or expand is None:
        raise CheckpointError("The file has no embedding of words or no first block: these are not a BERT's weights.")
    pooler = "pooler.weight" in shapes
    return {
        "vocabulary": words[0],
        "dim": words[1],
        "mlp_dim": expand[0],
        "depth": len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        "max_tokens": shapes["embed.positions.weight"][0],
        "segments": shapes["embed.segments.weight"][0],
        "pooler": pooler,
        "next_sentence": "next_sentence.weight" in shapes,
        **infer_head(shapes, guess, pooler),
    }


def change(config: BertConfig, changes: Fields) -> BertConfig:
    """A configuration with some fields changed, and with them what must follow.

    Classes alone ask for the class of each text, and none for no head. What another head does not read goes: the
    pooler, which only the class of a text needs, and what the pre-training asked beside the words.
    """
    changes = dict(changes)
    if "head" not in changes and "classes" in changes:
        head = config.head if config.head in WITH_CLASSES else "classify"
        changes["head"] = head if changes["classes"] else "none" if config.head in WITH_CLASSES else config.head
    head = changes.get("head", config.head)
    if head not in WITH_CLASSES:
        changes.setdefault("classes", 0)
    if head != config.head:
        read = {"classify": True, "none": config.pooler, "masked-lm": bool(changes.get("next_sentence"))}
        changes.setdefault("pooler", read.get(head, False))
    if head != config.head or not changes.get("pooler", config.pooler):
        changes.setdefault("next_sentence", False)
    return changed(config, changes)


def card(config: BertConfig) -> dict[str, Any]:
    """What the card of a fresh model says: it has no tokenizer before one is trained on the text it learns from."""
    reads = TextPreprocessing(max_tokens=config.max_tokens, segments=config.segments > 1)
    return {"preprocessing": reads, "task": "classify" if config.head == "none" else config.head}


FAMILY = Family(
    name="bert",
    config=BertConfig,
    build=Bert,
    variants=VARIANTS,
    formats=FORMATS,
    reads=TextPreprocessing,
    learns={
        "language": "bert-mini-mlm",
        "classify-text": "bert-mini-classify",
        "tag": "bert-mini-tag",
        "answer": "bert-mini-answer",
    },
    card=card,
    example=one_text,
    decides=("classes", "head"),
    heads=("head.*",),
    before_heads=("pooler.*", "next_sentence.*"),
    training=("dropout", "attention_dropout", "head_dropout"),
    identity=("dim", "depth", "heads", "mlp_dim"),
    flexible=("classes", "head", "pooler", "next_sentence"),
    untold={"heads": "dim"},
    assumed=("heads", "activation"),
    infer=infer,
    change=change,
)
