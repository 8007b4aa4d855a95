"""The likeliest words of a large layer are those that it has when all of it is multiplied."""

import copy

import pytest
import torch
import transformers
from torch import Tensor, nn

import vitrail
from vitrail.core import packing, shortlist
from vitrail.core.highest import highest
from vitrail.core.packing import PackedLinear, packed
from vitrail.core.shortlist import Shortlist
from vitrail.decoding.write import complete, translate
from vitrail.generation import Generation
from vitrail.models.gpt import GPT

pytestmark = pytest.mark.skipif(
    not (shortlist.available() and packing.available()), reason="this processor does not multiply bytes quickly"
)

WORDS, DIM = 1600, 24


def layer(kind: str, bias: bool) -> nn.Linear:
    torch.manual_seed(0)
    made = nn.Linear(DIM, WORDS, bias=bias).eval()
    with torch.no_grad():
        weight = made.weight.normal_()
        if kind == "columns that are large in all words":
            weight[:, 3] += 40
            weight[:, 7] *= 1e-3
        if kind == "a column of one number":
            weight[:, 5] = 0.7
        if kind == "words of zeros":
            weight[100:200] = 0
        if kind == "long and short words":
            weight *= torch.logspace(-3, 3, WORDS)[torch.randperm(WORDS), None]
        if kind == "words that are alike":
            weight[800:] = weight[:800] * (1 + 1e-6 * torch.randn(800, 1))
        if bias:
            made.bias.normal_(std=3)
    return made


KINDS = [
    "plain", "columns that are large in all words", "a column of one number", "words of zeros", "long and short words",
    "words that are alike",
]  # fmt: skip


def exactly(linear: nn.Linear, x: Tensor) -> Tensor:
    return copy.deepcopy(linear).double()(x.double())


def as_they_are(scores: Tensor) -> Tensor:
    return scores


@pytest.mark.parametrize("bias", [True, False], ids=["bias", ""])
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_every_answer_lies_within_its_bounds(kind, bias):
    linear = layer(kind, bias)
    for size in (1e-3, 1.0, 1e3):
        x = size * torch.randn(5, DIM) * torch.logspace(-1, 1, 5)[:, None]
        x[1, 2] *= 100
        x[2] = 0
        bounds = Shortlist(linear).bounds(x)
        assert bounds is not None
        least, most = bounds
        exact = exactly(linear, x)
        assert (least <= exact).all()
        assert (exact <= most).all()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", ""])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_the_likeliest_are_right_and_the_others_no_more_than_right(kind, bias, count):
    linear, found = layer(kind, bias), 0
    made = Shortlist(linear)
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(4, DIM) + linear.weight[torch.randint(0, WORDS, (4,))]
        answer = made(linear, x, count, as_they_are)
        if answer is None:
            continue
        found += 1
        exact = exactly(linear, x)
        right = exact.topk(count)
        torch.testing.assert_close(answer.topk(count).values.double(), right.values, rtol=1e-5, atol=1e-30)
        torch.testing.assert_close(answer.double().gather(1, right.indices), right.values, rtol=1e-5, atol=1e-30)
        assert (answer.double() <= exact + 1e-5 * exact.abs().amax()).all()
    assert found > 5


@torch.inference_mode()
def test_words_that_may_not_come_leave_the_likeliest_of_the_others():
    linear = layer("plain", bias=True)
    x = torch.randn(3, DIM)
    full = exactly(linear, x)
    banned = full.topk(40).indices

    def judge(scores: Tensor) -> Tensor:
        return scores.scatter(1, banned, -torch.inf)

    answer = Shortlist(linear)(linear, x, 1, judge)
    assert answer is not None
    assert torch.equal(judge(answer).argmax(dim=1), judge(full).argmax(dim=1))


@torch.inference_mode()
def test_where_all_words_may_be_the_likeliest_there_is_no_list():
    linear, x = layer("plain", bias=False), torch.randn(2, DIM)
    made = Shortlist(linear)
    assert made(linear, torch.zeros(2, DIM), 1, as_they_are) is None
    assert made(linear, 1e-25 * x, 1, as_they_are) is None
    assert made(linear, x, WORDS // 2, as_they_are) is None
    assert made(linear, x, 1, lambda scores: torch.full_like(scores, -torch.inf)) is None
    for wrong in (torch.nan, torch.inf):
        assert made(linear, x.index_fill(1, torch.tensor([3]), wrong), 1, as_they_are) is None
    linear.weight[4, 2] = torch.nan
    assert Shortlist(linear)(linear, x, 1, as_they_are) is None


@pytest.fixture
def lists(monkeypatch) -> list[bool]:
    """Lists are made for small layers too, from the first word on; each time, whether one was short enough."""
    short, call = list[bool](), Shortlist.__call__

    def counted(self, *given):
        answer = call(self, *given)
        short.append(answer is not None)
        return answer

    monkeypatch.setattr(Shortlist, "__call__", counted)
    monkeypatch.setattr(shortlist, "SMALLEST", 0)
    monkeypatch.setattr(shortlist, "ROWS", 0)
    return short


@torch.no_grad()
def test_a_packed_layer_keeps_its_list_until_its_weight_changes(lists):
    linear = layer("plain", bias=True)
    twin, x = packed(linear), torch.randn(2, 1, DIM)
    assert isinstance(twin, PackedLinear)
    assert twin.likeliest(x, 1, as_they_are).shape == (2, 1, WORDS)
    made = twin.shortlist
    twin.likeliest(x, 1, as_they_are)
    assert twin.shortlist is made
    linear.weight.neg_()
    assert torch.equal(twin.likeliest(x, 1, as_they_are).argmax(dim=-1), linear(x).argmax(dim=-1))
    assert twin.shortlist is not made
    other = copy.deepcopy(twin)
    other.weight.neg_()
    assert torch.equal(other.likeliest(x, 1, as_they_are).argmax(dim=-1), other(x).argmax(dim=-1))
    assert torch.equal(twin.likeliest(x, 1, as_they_are).argmax(dim=-1), linear(x).argmax(dim=-1))
    assert lists == [True] * 5


def test_small_layers_have_no_list_and_large_ones_wait(monkeypatch):
    twin, x = packed(layer("plain", bias=False)), torch.randn(3, DIM)
    with torch.inference_mode():
        for _ in range(100):
            twin.likeliest(x, 1, as_they_are)
        assert twin.shortlist is None
        monkeypatch.setattr(shortlist, "SMALLEST", 0)
        asked = 0
        while twin.shortlist is None:
            twin.likeliest(x, 1, as_they_are)
            asked += 3
        assert shortlist.ROWS < asked <= shortlist.ROWS + 6
        twin.likeliest(torch.zeros(3, DIM), 1, as_they_are)  # all words are as likely, so the list was too long
        assert twin.waited == 3
    twin.likeliest(x.requires_grad_(), 1, as_they_are).sum().backward()
    assert twin.waited == 3


@torch.no_grad()
def test_a_changed_bias_is_noticed(lists):
    linear = layer("plain", bias=True)
    twin, x = packed(linear), torch.randn(4, DIM)
    twin.likeliest(x, 1, as_they_are)
    linear.bias[7] = 1e4
    assert twin.likeliest(x, 1, as_they_are).argmax(dim=1).tolist() == [7] * 4
    twin.bias = nn.Parameter(torch.zeros(WORDS).index_fill(0, torch.tensor(9), 1e4))
    assert twin.likeliest(x, 1, as_they_are).argmax(dim=1).tolist() == [9] * 4
    twin.bias = None
    assert torch.equal(twin.likeliest(x, 1, as_they_are).argmax(dim=1), (x @ linear.weight.mT).argmax(dim=1))
    assert lists == [True] * 4


@torch.no_grad()
def test_a_layer_with_a_hook_has_no_list(lists):
    twin, x = packed(layer("plain", bias=True)), torch.randn(4, DIM)
    twin.register_forward_hook(lambda part, inputs, answer: answer.index_fill(1, torch.tensor(5), 1e4))
    assert twin.likeliest(x, 1, as_they_are).argmax(dim=1).tolist() == [5] * 4
    assert not lists


@torch.no_grad()
def test_what_a_layer_takes_its_list_takes(lists):
    twin, x = packed(layer("plain", bias=True)), torch.randn(4, DIM)
    assert torch.equal(twin.likeliest(x[0], 1, as_they_are), twin(x[0]))
    assert twin.likeliest(x[:0], 1, as_they_are).shape == (0, WORDS)
    assert not lists


def test_rows_that_are_too_long_for_bytes_have_no_list(lists, monkeypatch):
    monkeypatch.setattr(shortlist, "LONGEST", DIM - 1)
    with torch.inference_mode():
        packed(layer("plain", bias=True)).likeliest(torch.randn(4, DIM), 1, as_they_are)
    assert not lists


@pytest.mark.parametrize("inputs", [1, 2, 3])
@torch.inference_mode()
def test_bounds_hold_for_words_that_are_little_beside_the_mean_of_all(inputs):
    for seed in range(30):
        torch.manual_seed(seed)
        linear = nn.Linear(inputs, 400, bias=False)
        linear.weight.normal_(mean=1000, std=1e-3)
        linear.weight[:30] = 1e-3 * torch.randn(30, inputs)
        x = torch.randn(3, inputs)
        bounds = Shortlist(linear).bounds(x)
        assert bounds is not None
        exact = exactly(linear, x)
        assert (bounds[0] <= exact).all()
        assert (exact <= bounds[1]).all()


SETTINGS = {
    "greedy": {},
    "an end not yet": {"end": (3, 5), "min_tokens": 9},
    "an end": {"end": (3, 5, 7, 9, 11, 13, 15)},
    "less of the same": {"repetition_penalty": 1.3},
    "more of the same": {"repetition_penalty": 0.8},
    "no run of two twice": {"no_repeat": 2},
    "words that may not come": {"forbidden": ((4,), (6, 7), *((word,) for word in range(20, 300)))},
    "a last word": {"end": (3, 8), "forced_end": (3, 8)},
    "drawn": {"sample": True, "temperature": 0.5},
    "drawn among few": {"sample": True, "top_k": 5, "temperature": 0.8},
    "drawn among few and sure": {"sample": True, "top_k": 9, "top_p": 0.7},
}
USED = {name for name in SETTINGS if name not in ("drawn", "more of the same")}


@pytest.fixture(scope="module")
def gpt(tmp_path_factory) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=WORDS, n_positions=64, n_embd=DIM, n_layer=2, n_head=2)
    return loaded(transformers.GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt"))


@pytest.fixture(scope="module")
def marian(tmp_path_factory) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
    config = transformers.MarianConfig(
        **{f"{stack}_{name}": size for name, size in sizes.items() for stack in ("encoder", "decoder")},
        vocab_size=WORDS, d_model=DIM, pad_token_id=WORDS - 1, decoder_start_token_id=WORDS - 1, eos_token_id=0,
        max_position_embeddings=64,
    )  # fmt: skip
    return loaded(transformers.MarianMTModel(config), tmp_path_factory.mktemp("marian"))


def loaded(model: transformers.PreTrainedModel, folder) -> nn.Module:
    """With weights that have something to say, and biases."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    model.save_pretrained(folder)
    return vitrail.from_pretrained(folder, announce=lambda sentence: None)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("named", SETTINGS)
def test_a_text_goes_on_as_without_lists(gpt, named, rows, lists):
    generation = Generation(**{"max_tokens": 16, **SETTINGS[named]})
    for seed in range(3):
        torch.manual_seed(seed)
        prompt, valid = torch.randint(0, WORDS, (rows, 4)), torch.arange(4) >= torch.arange(rows)[:, None]
        plain, listed = (
            complete(model, prompt, generation, valid, torch.Generator().manual_seed(seed))
            for model in (gpt, packed(gpt))
        )
        assert torch.equal(plain.ids, listed.ids)
        assert torch.equal(plain.valid, listed.valid)
    assert (sum(lists) > 10) == (named in USED)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("named", SETTINGS)
def test_a_sentence_is_translated_as_without_lists(marian, named, rows, lists):
    generation = Generation(**{"start": WORDS - 1, "end": (0,), "max_tokens": 16, **SETTINGS[named]})
    for seed in range(3):
        torch.manual_seed(seed)
        source = torch.randint(0, WORDS - 1, (rows, 5))
        plain, listed = (
            translate(model, source, generation, generator=torch.Generator().manual_seed(seed))
            for model in (marian, packed(marian))
        )
        assert torch.equal(plain.ids, listed.ids)
    assert (sum(lists) > 10) == (named in USED)


def test_a_model_that_answers_otherwise_than_its_layer_is_asked_itself(gpt, lists):
    class Odd(GPT):
        def next(self, x):
            return super().next(x).index_fill(-1, torch.arange(0, WORDS, 2), -torch.inf)

    odd = Odd(gpt.config).eval()
    odd.load_state_dict(gpt.state_dict())
    written = complete(packed(odd), torch.tensor([[3, 4], [5, 6]]), Generation(max_tokens=9)).ids
    assert (written % 2 == 1).all()
    assert not lists


def test_a_beam_search_wants_all_words(marian, lists):
    translate(packed(marian), torch.randint(0, WORDS - 1, (2, 5)), Generation(start=WORDS - 1, beams=3, max_tokens=9))
    assert not lists


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200, 640, 1000, 4099])
@pytest.mark.parametrize("count", [1, 8, 50])
def test_the_highest_are_those_that_sorting_finds(length, count):
    torch.manual_seed(length)
    for scores in (
        torch.randn(3, length),
        torch.randn(3, length).masked_fill(torch.rand(3, length) < 0.98, -torch.inf),
    ):
        values, places = highest(scores, count)
        assert torch.equal(values, scores.topk(min(count, length)).values)
        assert torch.equal(scores.gather(1, places), values)
        assert all(len(set(row)) == len(row) for row in places.tolist())
    alike = torch.randn(3, length).round()
    assert torch.equal(highest(alike, count)[1], alike.topk(min(count, length)).indices)


def test_looking_what_a_processor_can_do_draws_nothing():
    before = torch.get_rng_state()
    packing.available.__wrapped__()
    shortlist.available.__wrapped__()
    assert torch.equal(torch.get_rng_state(), before)
