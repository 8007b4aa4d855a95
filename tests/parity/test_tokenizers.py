"""The same pieces under the same numbers as transformers' tokenizers, from the files that they save."""

import inspect
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    CLIPTokenizer,
    GPT2Tokenizer,
    MarianTokenizer,
    PreTrainedTokenizerFast,
    tokenization_utils_tokenizers,
)
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.models.qwen2 import tokenization_qwen2 as qwen2
from transformers.models.qwen3_5 import tokenization_qwen3_5 as qwen3_5

from parity.marian_files import ENGLISH, GERMAN, marian_files
from vitrail.data.text.answering import Questions
from vitrail.data.text.dataset import Question, Texts
from vitrail.errors import CheckpointError
from vitrail.tokenizing import find_tokenizer, from_json, train_byte_pairs, train_joint, train_word_pieces
from vitrail.tokenizing.bounds import CLIP, LLAMA3, MISTRAL, QWEN2, QWEN3_5
from vitrail.weights.tokenizers import to_transformers

SPECIAL = ("Ein Mann </s> auf der Bank", "a<pad>b <unk>", "</s>", ">>fra<< Ein  </s>  auf ", "</s", "< /s>")
UNUSUAL = (
    "Größe naïve café ÉCOLE — “quoted” … 北京 12,345.67 ☃ x\u200dy",
    "  two  spaces,\ttabs\nand lines  ",
    "[MASK] refused to serve me a [MASK] sandwich.",
    "unbelievable" * 12,
    "don't-stop_me_now@example.com #1",
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A folder with a vocab.txt."""
    made = train_word_pieces([*ENGLISH, *GERMAN, *UNUSUAL], size=300)
    folder = tmp_path_factory.mktemp("bert")
    pieces = sorted(made.vocabulary, key=made.vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory) -> Path:
    """A folder with a vocab.json and merges.txt, as GPT-2's tokenizer is published."""
    model = json.loads(train_byte_pairs([*ENGLISH, *UNUSUAL], size=400).tokenizer)["model"]
    folder = tmp_path_factory.mktemp("gpt")
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "".join(f"{first} {second}\n" for first, second in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def marian(request, tmp_path_factory) -> Path:
    """A folder as Marian's conversions are published; two pieces of the source are missing from the list."""
    folder = tmp_path_factory.mktemp("marian")
    return marian_files(folder, request.param)


@pytest.mark.parametrize("lower_case", [True, False])
def test_word_pieces_equal_those_of_bert(bert, tmp_path, lower_case):
    (tmp_path / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower_case, "model_max_length": 64}))
    ours, theirs = find_tokenizer(tmp_path), BertTokenizer(str(bert / "vocab.txt"), do_lower_case=lower_case)
    assert ours is not None
    assert ours.max_tokens == 64
    for text in (*ENGLISH, *UNUSUAL):
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    pair = ours.encode(ENGLISH[0], ENGLISH[1])
    assert pair.ids == theirs(ENGLISH[0], ENGLISH[1])["input_ids"]
    assert pair.segments == theirs(ENGLISH[0], ENGLISH[1])["token_type_ids"]
    assert pair.spans == theirs(ENGLISH[0], ENGLISH[1], return_offsets_mapping=True)["offset_mapping"]
    assert ours.id_of("[MASK]") == theirs.mask_token_id
    assert ours.pad_id == theirs.pad_token_id


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}])
def test_byte_pairs_equal_those_of_gpt2(gpt, tmp_path, settings):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((gpt / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = GPT2Tokenizer.from_pretrained(tmp_path, **settings)
    ours = find_tokenizer(tmp_path, max_tokens=1024)
    assert ours is not None
    assert ours.max_tokens == 1024
    assert ours.pad_token is None
    for text in (*ENGLISH, *UNUSUAL, "two<|endoftext|>texts"):
        ids = ours.encode(text).ids
        assert ids == theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.id_of("<|endoftext|>") == theirs.eos_token_id


def test_marians_pieces_equal_those_of_transformers(marian):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sacremoses, which neither uses
        theirs = MarianTokenizer.from_pretrained(marian)
    ours = find_tokenizer(marian)
    assert ours is not None
    for text in (*GERMAN, ">>fra<< " + GERMAN[0], "Ωμέγα ☃☃", "", *UNUSUAL[:2], *SPECIAL):
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    for text in ENGLISH:
        ids = theirs(text_target=text)["input_ids"]
        assert ours.encode(text, target=True).ids == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    words = ours(GERMAN[:3])
    batch = theirs(list(GERMAN[:3]), padding=True, return_tensors="pt")
    assert words.ids.equal(batch["input_ids"])
    assert words.valid.equal(batch["attention_mask"].bool())


def settle(folder: Path, **told) -> None:
    """Write other settings beside a tokenizer.json."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | told))


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("kind", ["TokenizersBackend", "PreTrainedTokenizerFast", "BertTokenizer", "GPT2Tokenizer"])
def test_letters_and_spaces_are_settled_only_for_tokenizers_of_a_family(bert, gpt, tmp_path, kind, value):
    of_bert = kind != "GPT2Tokenizer"
    known = BertTokenizer(str(bert / "vocab.txt")) if of_bert else GPT2Tokenizer.from_pretrained(gpt)
    known.save_pretrained(tmp_path)
    settle(tmp_path, tokenizer_class=kind, do_lower_case=value, add_prefix_space=value)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("The HAM refused", "the Größe"):
        assert find_tokenizer(tmp_path).encode(text).ids == theirs(text)["input_ids"]


@pytest.mark.parametrize("told", [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]])
@pytest.mark.parametrize("listed", [True, False])
def test_a_model_is_told_of_which_text_a_token_is_where_its_tokenizer_says_so(bert, tmp_path, told, listed):
    BertTokenizer(str(bert / "vocab.txt")).save_pretrained(tmp_path)
    settle(tmp_path, model_input_names=told)
    if listed:
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
    theirs = AutoTokenizer.from_pretrained(tmp_path)(["wer", "wo"], ["ein Mann", "hier"], padding=True)
    ours = find_tokenizer(tmp_path)(["wer", "wo"], ["ein Mann", "hier"])
    assert (None if ours.segments is None else ours.segments.tolist()) == theirs.get("token_type_ids")
    files, _ = to_transformers(find_tokenizer(tmp_path))
    assert files["tokenizer_config.json"]["model_input_names"] == told


def test_a_tokenizer_that_cuts_special_tokens_apart_is_refused(bert, tmp_path):
    BertTokenizer(str(bert / "vocab.txt"), split_special_tokens=True).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="split_special_tokens=true"):
        find_tokenizer(tmp_path)


@pytest.mark.parametrize("train", [train_byte_pairs, train_joint, train_word_pieces])
def test_what_was_trained_here_is_read_by_transformers(train, tmp_path):
    ours = train([*ENGLISH, *GERMAN], size=320)
    (tmp_path / "tokenizer.json").write_text(ours.tokenizer, encoding="utf-8")
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in (*ENGLISH, *GERMAN, *UNUSUAL):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_a_saved_tokenizer_comes_back_with_its_special_tokens(bert, tmp_path):
    theirs = BertTokenizer(str(bert / "vocab.txt"), do_lower_case=False, model_max_length=128, padding_side="left")
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    ours = find_tokenizer(tmp_path)
    assert ours is not None
    assert (ours.max_tokens, ours.padding, ours.segments) == (128, "left", True)
    assert (ours.mask_token, ours.class_token, ours.separator_token) == ("[MASK]", "[CLS]", "[SEP]")
    batch = theirs(list(ENGLISH), padding=True, return_tensors="pt")
    words = ours(ENGLISH)
    assert words.ids.equal(batch["input_ids"])
    assert words.valid.equal(batch["attention_mask"].bool())
    assert words.segments is not None
    assert words.segments.equal(batch["token_type_ids"])


def roberta_json(ours):
    """The same byte pairs, with two ends between two texts, as RoBERTa has them."""
    values = json.loads(ours.tokenizer)
    ids = {token: values["model"]["vocab"][piece] for token, piece in (("<s>", "!"), ("</s>", "?"))}
    values["post_processor"] = {
        "type": "RobertaProcessing", "sep": ["?", ids["</s>"]], "cls": ["!", ids["<s>"]], "trim_offsets": True,
        "add_prefix_space": False,
    }  # fmt: skip
    return json.dumps(values)


def test_what_stands_around_texts_is_what_the_tokenizer_puts_there(bert):
    word_pieces, joint = find_tokenizer(bert), train_joint([*ENGLISH, *GERMAN], size=300)
    assert word_pieces is not None
    for ours in (word_pieces, joint, from_json(roberta_json(train_byte_pairs(ENGLISH, size=300)))):
        first, second = ours.encode_all(["A dog", "two men"], around=False)
        alone, pair = ours.encode("A dog"), ours.encode("A dog", "two men")
        assert ours.wrap(first) == (alone.ids, alone.segments)
        assert ours.wrap(first, second) == (pair.ids, pair.segments)
        assert ours.wrap([], [])[0] == [number for number, added in zip(pair.ids, pair.added, strict=True) if added]


@pytest.mark.parametrize("most", [3, 4, 7, 8, 20])
def test_texts_are_cut_as_transformers_cuts_them(bert, most):
    theirs = BertTokenizer(str(bert / "vocab.txt"))
    whole = find_tokenizer(bert)
    assert whole is not None
    ours = replace(whole, max_tokens=most, overflow="cut")
    assert ours.encode(ENGLISH[2]).ids == theirs(ENGLISH[2], truncation=True, max_length=most)["input_ids"]
    for first, second in ((ENGLISH[0], ENGLISH[2]), (ENGLISH[2], "Short."), (ENGLISH[1], ENGLISH[1])):
        if most > 4:
            theirs_cut = theirs(first, second, truncation=True, max_length=most)["input_ids"]
            assert ours.encode(first, second).ids == theirs_cut


def test_windows_of_a_text_are_those_that_transformers_cuts(bert):
    theirs, ours = BertTokenizer(str(bert / "vocab.txt")), find_tokenizer(bert)
    assert ours is not None
    context, asked = " ".join(ENGLISH), "Who is sleeping?"
    samples = Texts([Question("one", "1", asked, context, ("a bench",), (context.index("a bench"),))], "answer")
    use = Questions(samples, ours, length=48, stride=11, question_length=20)
    room = 48 - 3 - len(theirs(asked, add_special_tokens=False)["input_ids"])
    cut = theirs(
        asked, context, truncation="only_second", max_length=48, stride=room - 11, return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    assert [use.rows[row].tolist() for row in range(len(use.rows))] == cut["input_ids"]
    for window, spans in zip(use.windows, cut["offset_mapping"], strict=True):
        assert window.spans.tolist() == [list(span) for span in spans[window.offset : -1]]


def test_the_patterns_that_are_known_are_those_that_transformers_writes():
    written = {
        QWEN2: qwen2.PRETOKENIZE_REGEX,
        QWEN3_5: qwen3_5.PRETOKENIZE_REGEX,
        LLAMA3: inspect.signature(TikTokenConverter.__init__).parameters["pattern"].default,
    }
    for ours, theirs in written.items():
        assert ours == theirs
    source = inspect.getsource(tokenization_utils_tokenizers)
    assert MISTRAL in source
    clip = json.loads(CLIPTokenizer().backend_tokenizer.to_str())["pre_tokenizer"]
    assert CLIP in json.dumps(clip, ensure_ascii=False).replace("\\\\", "\\")


TOLD = {"content": "[PERSON]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


@pytest.mark.parametrize("told", ["added_tokens.json", "tokenizer_config.json"])
@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_tokens_that_were_added_later_are_read(bert, gpt, tmp_path, kind, told):
    folder = {"bert": bert, "gpt": gpt}[kind]
    for name in ("vocab.txt", "vocab.json", "merges.txt"):
        if (folder / name).exists():
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    read = (
        (lambda: BertTokenizer.from_pretrained(tmp_path))
        if kind == "bert"
        else (lambda: GPT2Tokenizer.from_pretrained(tmp_path))
    )
    size = len(read())
    if told == "added_tokens.json":
        (tmp_path / told).write_text(json.dumps({"[PERSON]": size, "newword": size + 1}))
    else:
        decoder = {str(size): TOLD | {"special": True}, str(size + 1): TOLD | {"content": "newword", "special": False}}
        (tmp_path / told).write_text(json.dumps({"added_tokens_decoder": decoder}))
    theirs, ours = read(), find_tokenizer(tmp_path)
    assert ours is not None
    assert ours.size == size + 2
    for text in ("[PERSON] sleeps on a newword bench", "a[PERSON]b, newwords", ENGLISH[0]):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_pieces_of_the_list_that_are_never_cut_apart_are_found_whole(bert, tmp_path):
    pieces = (bert / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*pieces, "[unused1]", "NAME"]), encoding="utf-8")
    decoder = {str(len(pieces)): TOLD | {"content": "[unused1]", "special": True}}
    decoder[str(len(pieces) + 1)] = TOLD | {"content": "NAME", "special": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    theirs, ours = BertTokenizer.from_pretrained(tmp_path), find_tokenizer(tmp_path)
    assert ours is not None
    for text in ("a [unused1] dog", "NAME sleeps, name runs"):
        assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_added_tokens_that_are_told_otherwise_are_refused(bert, tmp_path):
    (tmp_path / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[PERSON]": "many"}))
    with pytest.raises(CheckpointError, match="are not numbers with a content each"):
        find_tokenizer(tmp_path)
