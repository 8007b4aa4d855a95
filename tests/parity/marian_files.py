"""The files of a tokenizer as Marian's conversions are published, learned from a few sentences."""

import io
import json
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

ENGLISH = (
    "A young man is sleeping on a bench in the park.",
    "Two dogs are running over the green grass, and one of them barks.",
    "The restaurant refused to serve me a ham sandwich, because it only cooks vegetarian food.",
    "People walk along the street; children play with a ball.",
    "A woman in a red coat reads a newspaper at the station.",
    "It's raining, isn't it? They're waiting for the bus, and I'll wait too.",
)
GERMAN = (
    "Ein junger Mann schläft auf einer Bank im Park.",
    "Zwei Hunde rennen über das grüne Gras, und einer von ihnen bellt.",
    "Das Restaurant weigerte sich, mir ein Schinkenbrot zu servieren.",
    "Menschen gehen die Straße entlang; Kinder spielen mit einem Ball.",
    "Eine Frau in einem roten Mantel liest am Bahnhof eine Zeitung.",
    "Es regnet, nicht wahr? Sie warten auf den Bus, und ich warte auch.",
)


def sentence_pieces(texts, kind, size) -> bytes:
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, model_type=kind, vocab_size=size, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    return written.getvalue()


def pieces_in(content: bytes) -> list[str]:
    model = SentencePieceProcessor()
    model.LoadFromSerializedProto(content)
    return [model.id_to_piece(number) for number in range(len(model))]


def marian_files(folder: Path, kind: str = "unigram") -> Path:
    """A folder as Marian's conversions are published; two pieces of the source are missing from the list."""
    source, target = (sentence_pieces(texts * 3, kind, 120) for texts in (GERMAN, ENGLISH))
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    missing = {pieces_in(source)[-1], pieces_in(source)[30]}
    joint = [piece for piece in dict.fromkeys([*pieces_in(target), *pieces_in(source)]) if piece not in missing]
    special = ["</s>", "<unk>"]
    order = [*special, *(piece for piece in joint if piece not in (*special, "<s>")), ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(order)}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"source_lang": "de", "target_lang": "en", "model_max_length": 512, "tokenizer_class": "MarianTokenizer"}
        )
    )
    return folder
