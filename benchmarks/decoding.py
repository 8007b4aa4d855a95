"""Writing sentences on CPU: vitrail beside transformers' `generate`, with the same weights and the same words.

    python benchmarks/decoding.py [--shape marian] [--batch 1] [--beams 1] [--tokens 25] [--seed 0] [--threads 2]
        [--seconds 60]

`marian` is the size of the opus-mt models (dim 512, 6 + 6 blocks; 61.6 M parameters with a shared vocabulary of
34,101), `gpt2` that of GPT-2 small. transformers makes the weights and vitrail reads them; both are made to write so
many words, and must write the same ones. `weights once a step` reads every matrix that a step needs and does nothing
else: no way of writing word by word can be faster. Where CTranslate2 is installed, it writes too (`marian` only).
Needs transformers (`pip install -e ".[dev]"`).
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from side_by_side import Work, apart, in_turns, show
from torch import Tensor, nn

import vitrail
from vitrail.core.packing import packed
from vitrail.core.precision import describe, fast_float32
from vitrail.decoding.write import Written, complete, translate
from vitrail.generation import Generation

BASE = "transformers generate"
END = 0


def marian(vocabulary: int) -> transformers.PreTrainedModel:
    """The size of an opus-mt model."""
    sizes = {"layers": 6, "attention_heads": 8, "ffn_dim": 2048}
    config = transformers.MarianConfig(
        **{f"{stack}_{name}": size for name, size in sizes.items() for stack in ("encoder", "decoder")},
        vocab_size=vocabulary,
        d_model=512,
        max_position_embeddings=512,
        activation_function="swish",
        scale_embedding=True,
        pad_token_id=vocabulary - 1,
        decoder_start_token_id=vocabulary - 1,
        eos_token_id=END,
        forced_eos_token_id=None,
    )
    return transformers.MarianMTModel(config)


def gpt2(vocabulary: int) -> transformers.PreTrainedModel:
    """The size of GPT-2 small."""
    config = transformers.GPT2Config(vocab_size=vocabulary, eos_token_id=END, bos_token_id=END)
    return transformers.GPT2LMHeadModel(config)


class Shape(NamedTuple):
    """A size of model, how many words it knows, and how it writes."""

    make: Callable[[int], transformers.PreTrainedModel]
    vocabulary: int
    write: Callable[..., Written]


SHAPES = {"marian": Shape(marian, 34_101, translate), "gpt2": Shape(gpt2, 50_257, complete)}


def models(make: Callable[[int], transformers.PreTrainedModel], vocabulary: int) -> tuple[Any, nn.Module]:
    """transformers' model, and ours with its weights."""
    torch.manual_seed(0)
    model = make(vocabulary).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return model, vitrail.from_pretrained(folder, announce=lambda sentence: None)


def weights_of_a_step(model: nn.Module) -> list[Tensor]:
    """Every matrix that the next word needs: all but those of an encoder and the tables of embeddings."""
    parts = model.named_modules()
    matrices = [part.weight for name, part in parts if isinstance(part, nn.Linear) and not name.startswith("encoder.")]
    return matrices if hasattr(model, "output") else [*matrices, model.get_parameter("words.weight")]


def ctranslate2(vocabulary: int, sentences: list[list[int]], beams: int, tokens: int) -> Work:
    """The same work in CTranslate2, which has one more way to begin: with an embedding of zeros."""
    import ctranslate2
    from ctranslate2.converters.transformers import MarianMTLoader

    torch.manual_seed(0)
    words = [f"w{word}" for word in range(vocabulary - 1)]  # all but the padding
    spec = MarianMTLoader().get_model_spec(marian(vocabulary).eval())
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.config.eos_token = spec.config.decoder_start_token = words[END]
    spec.config.unk_token = words[1]
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        translator = ctranslate2.Translator(folder, intra_threads=torch.get_num_threads(), compute_type="float32")
    written = [[f"w{word}" for word in row] for row in sentences]
    room = {"min_decoding_length": tokens, "max_decoding_length": tokens}
    return lambda: translator.translate_batch(written, beam_size=beams, **room)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="marian")
    parser.add_argument("--vocabulary", type=int, default=None, help="words that the model knows")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the prompts: how often a text repeats itself is theirs")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(describe())

    shape = SHAPES[flags.shape]
    vocabulary = flags.vocabulary or shape.vocabulary
    their_model, our_model = models(shape.make, vocabulary)
    twin = packed(our_model)
    torch.manual_seed(flags.seed)
    ids = torch.randint(1, vocabulary - 1, (flags.batch, flags.tokens))
    start = their_model.config.to_dict().get("decoder_start_token_id")
    counts = {"max_tokens": flags.tokens, "min_tokens": flags.tokens}
    generation = Generation(start=start, end=(END,), beams=flags.beams, **counts)
    matrices = weights_of_a_step(our_model)

    def theirs() -> Tensor:
        return their_model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_beams=flags.beams, do_sample=False,
            max_new_tokens=flags.tokens, min_new_tokens=flags.tokens, pad_token_id=END,
        )  # fmt: skip

    def ours(model: nn.Module, **settings: int) -> Tensor:
        with fast_float32():
            return shape.write(model, ids, generation, **settings).ids

    def bound() -> None:
        for _ in range(flags.tokens):
            for matrix in matrices:
                matrix.sum()

    ways: dict[str, Work] = {
        BASE: theirs,
        "vitrail, fast_float32()": lambda: ours(our_model),
        "vitrail, packed()": lambda: ours(twin),
        **({"vitrail, packed(), no guesses": lambda: ours(twin, guesses=0)} if flags.batch == flags.beams == 1 else {}),
        "weights once a step": bound,
    }
    if flags.shape == "marian" and importlib.util.find_spec("ctranslate2"):  # its OpenMP would take torch's threads
        ways["CTranslate2"] = apart(ctranslate2, vocabulary, ids.tolist(), flags.beams, flags.tokens)
    with torch.inference_mode():
        expected = theirs()[:, -flags.tokens :]
        same = {
            name: f"{int((ways[name]() == expected).sum())} of {expected.numel()} words"
            for name in ways
            if name.startswith("vitrail")
        }
        times = in_turns(ways, flags.seconds)
    title = f"{flags.shape}, batch {flags.batch}, {flags.beams} beams, {flags.tokens} words, float32"
    show(title, times, base=BASE, notes=same)


if __name__ == "__main__":
    main()
