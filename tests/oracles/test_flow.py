"""What flows through a model is told as it is: shapes of every part, in the order in which they are done."""

import pytest
import torch

from oracles.detectors import small_detector
from vitrail.cli.main import main
from vitrail.errors import ConfigError
from vitrail.flow import flow_of_picture, flow_of_text, stages
from vitrail.generation import Generation
from vitrail.loading import create_model, save_pretrained
from vitrail.samples import Words
from vitrail.tokenizing import train_joint, train_word_pieces

TEXTS = ["a small dog sleeps", "the dog sees a small cat", "the cat sleeps on a dog"] * 3


def translator():
    torch.manual_seed(0)
    preprocessing = train_joint(TEXTS, size=40, max_tokens=32)
    size = preprocessing.size
    model = create_model(
        "transformer-tiny", source_vocabulary=size, target_vocabulary=size, dim=16, encoder_heads=2, decoder_heads=2,
        encoder_mlp_dim=24, decoder_mlp_dim=24, max_tokens=32,
    )  # fmt: skip
    settings = Generation(start=2, end=(3,), padding=0, max_tokens=5)
    return with_card(model, preprocessing=preprocessing, generation=settings)


def with_card(model, **fields):
    from dataclasses import replace

    model.card = replace(model.card, **fields)
    return model.eval()


def test_a_sentence_is_followed_through_encoder_and_decoder():
    model = translator()
    found = flow_of_text(model, "a small dog sleeps")
    read, written = len(found.read), len(found.written)
    assert (found.read[-1], found.written[0]) == ("</s>", "<s>")
    by_name = {stage.name: stage for stage in found.stages}
    assert by_name["encoder.0.attention"].kind == "Attention, 2 heads"
    assert by_name["encoder.1"].given == ((1, read, 16),)
    assert by_name["decoder.0.cross_attention"].given == ((1, written, 16),)
    assert {(1, written, 16), (1, read, 16)} <= set(by_name["decoder.0.cross_attention"].taken)
    assert by_name["output"].given == ((1, written, model.config.target_vocabulary),)
    names = [stage.name for stage in found.stages]
    assert names.index("encoder.1") < names.index("decoder.0") < names.index("output")
    assert "encoder.1.attention" not in names, "equal blocks are not taken apart again"


def test_looking_leaves_no_hook_behind_and_changes_no_answer():
    model = translator()
    words = Words(torch.tensor([[4, 5, 3]]), torch.ones(1, 3, dtype=torch.bool))
    target = torch.tensor([[2, 6]])
    before = model(words.ids, target)
    stages(model, words.ids, target)
    assert torch.equal(model(words.ids, target), before)
    assert not any(part._forward_hooks for part in model.modules())


def test_a_picture_is_followed_through_a_vit():
    model = create_model("vit-tiny-16", dim=24, heads=3, mlp_dim=36, depth=2, image=32, patch=8, classes=4)
    found = flow_of_picture(model, torch.zeros(3, 40, 40, dtype=torch.uint8))
    by_name = {stage.name: stage.given for stage in found.stages}
    assert by_name["patch_embed"] == ((1, 24, 4, 4),)
    assert by_name["blocks.1"] == ((1, 17, 24),)
    assert by_name["head"] == ((1, 4),)


def test_a_backbone_is_followed_as_if_it_were_alone():
    found = flow_of_picture(small_detector(), torch.zeros(3, 48, 64, dtype=torch.uint8))
    by_name = {stage.name: stage for stage in found.stages}
    assert [by_name[f"backbone.stages.{number}"].given for number in range(3)] == [
        ((1, 4, 12, 16),), ((1, 6, 6, 8),), ((1, 8, 3, 4),),
    ]  # fmt: skip
    assert by_name["backbone.stages.1"].kind == "Stage, 2 blocks"
    model = create_model("detr-tiny-panoptic", detr={"backbone": {"stem": 8}}).eval()
    within = {stage.name for stage in stages(model.detr, torch.zeros(1, 3, 32, 32))}
    assert {f"detr.{name}" for name in within} <= {stage.name for stage in stages(model, torch.zeros(1, 3, 32, 32))}


def test_a_model_without_a_tokenizer_reads_no_text():
    with pytest.raises(ConfigError, match="has no tokenizer"):
        flow_of_text(create_model("bert-tiny", vocabulary=50), "a dog")


def test_info_prints_it(tmp_path, capsys):
    preprocessing = train_word_pieces(TEXTS, size=60)
    model = create_model("bert-tiny", vocabulary=preprocessing.size, head="classify", classes=2)
    folder = save_pretrained(with_card(model, preprocessing=preprocessing, labels=("cat", "dog")), tmp_path / "bert")
    assert main(["info", str(folder), "--flow", "a small dog"]) == 0
    said = capsys.readouterr().out
    assert "[CLS]" in said
    assert "blocks.0.attention" in said
    assert main(["info", str(folder), "--flow", "a dog", "--set", "dim=3"]) == 2
    assert "leave out --set" in capsys.readouterr().err


def test_a_question_and_its_text_are_read_as_two():
    preprocessing = train_word_pieces(TEXTS, size=60)
    sizes = {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "max_tokens": 32}
    model = with_card(create_model("bert-tiny", vocabulary=preprocessing.size, **sizes), preprocessing=preprocessing)
    assert flow_of_text(model, "a dog\ta small dog").read.count("[SEP]") == 2
    assert flow_of_text(model, "a dog").read.count("[SEP]") == 1
    with pytest.raises(ConfigError, match="nothing flows"):
        flow_of_text(model, "  ")
