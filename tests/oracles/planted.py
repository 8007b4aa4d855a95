"""Small models that read texts: translators whose attention is set by hand, and random ones."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from parity.references import disturbed
from vitrail.core.attention import Attention
from vitrail.generation import Generation
from vitrail.models.bert import Bert, BertConfig
from vitrail.models.gpt import GPT, GPTConfig
from vitrail.models.parallel_transformer import ParallelTransformer, ParallelTransformerConfig
from vitrail.models.transformer import Transformer, TransformerConfig, both, vocabulary
from vitrail.tokenizing import TextPreprocessing, train_byte_pairs, train_word_pieces
from vitrail.weights.card import Card

WORDS = ["<pad>", "<s>", "</s>", "hier", "schläft", "ein", "hund", "here", "sleeps", "a", "dog", "<unk>"]
SAYS = {"hier": "here", "schläft": "sleeps", "ein": "a", "hund": "dog", "</s>": "</s>"}
NEXT = {"<s>": "ein", "a": "hund", "dog": "schläft", "sleeps": "hier", "here": "</s>"}  # what is read after a word
SENTENCE = "hier schläft ein hund"
CORPUS = ["the animal did not cross the street, because it was too tired", "a café in the old town"] * 30


def each_a_piece() -> TextPreprocessing:
    """A tokenizer of which every word is one piece, and the end stands behind."""
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<unk>"])
    tokens = {"pad_token": "<pad>", "start_token": "<s>", "end_token": "</s>", "unknown_token": "<unk>"}
    return TextPreprocessing(tokenizer=tokenizer.to_str(), max_tokens=16, **tokens)


def translating(depth: int = 1, heads: int = 1) -> Transformer:
    torch.manual_seed(0)
    sizes = {**both(depth=depth, heads=heads, mlp_dim=8), **vocabulary(len(WORDS)), "dim": len(WORDS)}
    model = Transformer(TransformerConfig(**sizes, max_tokens=16, dropout=0.0)).eval()
    writing = Generation(start=1, end=(2,), padding=0, max_tokens=10)
    model.card = Card(model="planted", preprocessing=each_a_piece(), task="translate", generation=writing)
    return model


def emptied(model: Transformer) -> Attention:
    """The attention from decoder to encoder of a translator that is left with nothing to do but to pass words on."""
    model.positions.zero_()
    for part in (model.encoder, model.decoder):
        for name, weight in part.named_parameters():
            if "norm" not in name:
                nn.init.zeros_(weight)
    cross = model.decoder[0].cross_attention
    for passing in (model.output, cross.key, cross.value):
        nn.init.eye_(passing.weight)
    return cross


def planted() -> Transformer:
    """A translator that writes word by word, and looks for each at the one word that `NEXT` says."""
    model, number = translating(), WORDS.index
    cross = emptied(model)
    with torch.no_grad():
        for before, read in NEXT.items():
            cross.query.weight[number(read), number(before)] = 20.0
        for read, said in SAYS.items():
            cross.out.weight[number(said), number(read)] = 20.0
    return model


def planted_at_once(length: int = 4) -> ParallelTransformer:
    """A translator that writes so many words at once; each place looks for one word, and each word for its source."""
    torch.manual_seed(0)
    sizes = {**both(depth=1, heads=1, mlp_dim=8), **vocabulary(len(WORDS)), "dim": len(WORDS)}
    model = ParallelTransformer(ParallelTransformerConfig(**sizes, max_tokens=16, dropout=0.0)).eval()
    cross, number = emptied(model.transformer), WORDS.index
    with torch.no_grad():
        model.length_head.bias[length - 1] = 100.0
        model.queries.zero_()
        for place, read in enumerate(("ein", "hund", "schläft", "hier")):
            model.queries[place, number(read)] = 3.0
        for read, said in SAYS.items():
            cross.query.weight[number(read), [number(read), number(said)]] = 20.0
            cross.out.weight[number(said), number(read)] = 20.0
    model.card = Card(model="planted", preprocessing=each_a_piece(), task="translate-parallel")
    return model


def of_texts(kind: str) -> nn.Module:
    """A small random model that reads texts, with its card."""
    torch.manual_seed(1)
    if kind == "gpt":
        preprocessing = train_byte_pairs(CORPUS, size=290, max_tokens=64)
        model = GPT(GPTConfig(vocabulary=preprocessing.size, max_tokens=64, dim=16, depth=3, heads=4, mlp_dim=16))
        card = Card(model=kind, preprocessing=preprocessing, task="causal-lm", generation=Generation(max_tokens=4))
    else:
        preprocessing = train_word_pieces(CORPUS, size=60, max_tokens=512)
        sizes = {"vocabulary": preprocessing.size, "dim": 16, "depth": 3, "heads": 4, "mlp_dim": 16}
        model = Bert(BertConfig(**sizes, head="classify", classes=2))
        card = Card(model=kind, preprocessing=preprocessing, task="classify", labels=("bad", "good"))
    disturbed(model).eval().card = card
    return model
