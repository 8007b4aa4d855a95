"""Every name a person may type, with one sentence, and where it leads. Imports nothing heavy."""

import importlib
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """Where a name leads.

    Attributes:
        target: `module:attribute`, or the thing itself where somebody registered it; for a model, its family's name.
        sentence: what it is.
        data: of a recipe: for what data can be, as its reader says, that it learns from; for any where it is empty.
    """

    target: Any
    sentence: str
    data: tuple[str, ...] = ()


FAMILIES: dict[str, Entry] = {
    "vit": Entry("vitrail.models.vit_formats:FAMILY", "Vision Transformer, DeiT and DINOv2: an image read as patches."),
    "resnet": Entry("vitrail.models.resnet_formats:FAMILY", "ResNet: convolutions that add to what they are given."),
    "resnetv2": Entry("vitrail.models.resnetv2_formats:FAMILY", "ResNetV2 of Big Transfer: norms before convolutions."),
    "detr-panoptic": Entry(
        "vitrail.models.panoptic_formats:FAMILY", "Panoptic DETR: things and stuff, with the pixels of each."
    ),
    "detr": Entry("vitrail.models.detr_formats:FAMILY", "DETR: objects found as a set, with a box for each."),
    "bert": Entry("vitrail.models.bert_formats:FAMILY", "BERT: a text read in both directions."),
    "gpt": Entry("vitrail.models.gpt_formats:FAMILY", "GPT-2: a text written word by word."),
    "transformer": Entry(
        "vitrail.models.transformer_formats:FAMILY", "The 2017 Transformer: a sentence read, another written."
    ),
    "parallel-transformer": Entry(
        "vitrail.models.parallel_transformer_formats:FAMILY", "A Transformer that writes all words at once."
    ),
}

MODELS: dict[str, Entry] = {
    "vit-tiny-16": Entry("vit", "ViT-Ti/16 at 224 pixels, 5.7 M parameters."),
    "vit-tiny-16-384": Entry("vit", "ViT-Ti/16 at 384 pixels, 5.8 M parameters."),
    "vit-small-8": Entry("vit", "ViT-S/8 at 224 pixels, 22.1 M parameters."),
    "vit-small-16": Entry("vit", "ViT-S/16 at 224 pixels, 22.1 M parameters."),
    "vit-small-16-384": Entry("vit", "ViT-S/16 at 384 pixels, 22.2 M parameters."),
    "vit-small-32": Entry("vit", "ViT-S/32 at 224 pixels, 22.9 M parameters."),
    "vit-small-32-384": Entry("vit", "ViT-S/32 at 384 pixels, 22.9 M parameters."),
    "vit-base-8": Entry("vit", "ViT-B/8 at 224 pixels, 86.6 M parameters."),
    "vit-base-16": Entry("vit", "ViT-B/16 at 224 pixels, 86.6 M parameters."),
    "vit-base-16-384": Entry("vit", "ViT-B/16 at 384 pixels, 86.9 M parameters."),
    "vit-base-32": Entry("vit", "ViT-B/32 at 224 pixels, 88.2 M parameters."),
    "vit-base-32-384": Entry("vit", "ViT-B/32 at 384 pixels, 88.3 M parameters."),
    "vit-large-16": Entry("vit", "ViT-L/16 at 224 pixels, 304 M parameters."),
    "vit-large-16-384": Entry("vit", "ViT-L/16 at 384 pixels, 305 M parameters."),
    "vit-large-32": Entry("vit", "ViT-L/32 at 224 pixels, 307 M parameters."),
    "vit-large-32-384": Entry("vit", "ViT-L/32 at 384 pixels, 307 M parameters."),
    "vit-huge-14": Entry("vit", "ViT-H/14 at 224 pixels, 632 M parameters."),
    "vit-tiny-conv": Entry("vit", "ViT-Ti with a convolutional stem, 4.6 M parameters."),
    "vit-small-conv": Entry("vit", "ViT-S with a convolutional stem, 17.8 M parameters."),
    "vit-base-conv": Entry("vit", "ViT-B with a convolutional stem, 80.8 M parameters."),
    "vit-tiny-hybrid-32": Entry("vit", "ViT-Ti behind a ResNet's first layer, at 224 pixels, 6.3 M parameters."),
    "vit-tiny-hybrid-32-384": Entry("vit", "ViT-Ti behind a ResNet's first layer, at 384 pixels, 6.4 M parameters."),
    "vit-small-hybrid-32": Entry("vit", "R26 + ViT-S/32 at 224 pixels, 36.4 M parameters."),
    "vit-small-hybrid-32-384": Entry("vit", "R26 + ViT-S/32 at 384 pixels, 36.5 M parameters."),
    "vit-base-hybrid-16": Entry("vit", "R50 + ViT-B/16 at 224 pixels, 98.7 M parameters."),
    "vit-base-hybrid-16-384": Entry("vit", "R50 + ViT-B/16 at 384 pixels, 99.0 M parameters."),
    "vit-large-hybrid-32": Entry("vit", "R50 + ViT-L/32 at 224 pixels, 329 M parameters."),
    "vit-large-hybrid-32-384": Entry("vit", "R50 + ViT-L/32 at 384 pixels, 329 M parameters."),
    "deit-tiny-16": Entry("vit", "DeiT-Ti/16 at 224 pixels, 5.7 M parameters."),
    "deit-small-16": Entry("vit", "DeiT-S/16 at 224 pixels, 22.1 M parameters."),
    "deit-base-16": Entry("vit", "DeiT-B/16 at 224 pixels, 86.6 M parameters."),
    "deit-base-16-384": Entry("vit", "DeiT-B/16 at 384 pixels, 86.9 M parameters."),
    "deit-tiny-distilled-16": Entry("vit", "DeiT-Ti/16 with a teacher's token, 5.9 M parameters."),
    "deit-small-distilled-16": Entry("vit", "DeiT-S/16 with a teacher's token, 22.4 M parameters."),
    "deit-base-distilled-16": Entry("vit", "DeiT-B/16 with a teacher's token, 87.3 M parameters."),
    "deit-base-distilled-16-384": Entry("vit", "DeiT-B/16 with a teacher's token at 384, 87.6 M parameters."),
    "dinov2-small-14": Entry("vit", "DINOv2 ViT-S/14, 22.8 M parameters."),
    "dinov2-base-14": Entry("vit", "DINOv2 ViT-B/14, 88.1 M parameters."),
    "dinov2-large-14": Entry("vit", "DINOv2 ViT-L/14, 306 M parameters."),
    "dinov2-giant-14": Entry("vit", "DINOv2 ViT-g/14, 1140 M parameters."),
    "dinov2-small-registers-14": Entry("vit", "DINOv2 ViT-S/14 with four registers, 22.8 M parameters."),
    "dinov2-base-registers-14": Entry("vit", "DINOv2 ViT-B/14 with four registers, 88.1 M parameters."),
    "dinov2-large-registers-14": Entry("vit", "DINOv2 ViT-L/14 with four registers, 306 M parameters."),
    "dinov2-giant-registers-14": Entry("vit", "DINOv2 ViT-g/14 with four registers, 1140 M parameters."),
    "resnet-18": Entry("resnet", "ResNet-18: 8 pairs of convolutions, 11.7 M parameters."),
    "resnet-34": Entry("resnet", "ResNet-34: 16 pairs of convolutions, 21.8 M parameters."),
    "resnet-50": Entry("resnet", "ResNet-50: 16 bottlenecks, 25.6 M parameters."),
    "resnet-101": Entry("resnet", "ResNet-101: 33 bottlenecks, 44.5 M parameters."),
    "resnet-152": Entry("resnet", "ResNet-152: 50 bottlenecks, 60.2 M parameters."),
    "resnetv2-50": Entry("resnetv2", "Big Transfer's R50x1 at 448 pixels, 25.5 M parameters."),
    "resnetv2-50x3": Entry("resnetv2", "Big Transfer's R50x3 at 448 pixels, 217 M parameters."),
    "resnetv2-101": Entry("resnetv2", "Big Transfer's R101x1 at 448 pixels, 44.5 M parameters."),
    "resnetv2-101x3": Entry("resnetv2", "Big Transfer's R101x3 at 448 pixels, 388 M parameters."),
    "resnetv2-152x2": Entry("resnetv2", "Big Transfer's R152x2 at 448 pixels, 236 M parameters."),
    "resnetv2-152x4": Entry("resnetv2", "Big Transfer's R152x4 at 480 pixels, 937 M parameters."),
    "detr-tiny": Entry("detr", "DETR on a small ResNet, to begin from nothing: queries are points, 2.15 M parameters."),
    "detr-resnet-50": Entry("detr", "DETR on a ResNet-50, 41.5 M parameters."),
    "detr-resnet-50-dc5": Entry("detr", "DETR on a ResNet-50 with a dilated last stage, 41.5 M parameters."),
    "detr-resnet-101": Entry("detr", "DETR on a ResNet-101, 60.5 M parameters."),
    "detr-resnet-101-dc5": Entry("detr", "DETR on a ResNet-101 with a dilated last stage, 60.5 M parameters."),
    "detr-resnet-18-small": Entry(
        "detr", "A small DETR on half a ResNet-18, to train from nothing, 4.28 M parameters."
    ),
    "detr-resnet-18-small-dc5": Entry("detr", "The same with a dilated last stage: finer, slower, 4.28 M parameters."),
    "detr-resnet-50-panoptic": Entry("detr-panoptic", "DETR on a ResNet-50 that paints segments, 42.9 M parameters."),
    "detr-resnet-50-dc5-panoptic": Entry("detr-panoptic", "The same with a dilated last stage, 42.9 M parameters."),
    "detr-resnet-101-panoptic": Entry("detr-panoptic", "DETR on a ResNet-101 that paints segments, 61.8 M parameters."),
    "detr-resnet-18-small-panoptic": Entry("detr-panoptic", "A small one, to train from nothing, 4.61 M parameters."),
    "detr-tiny-panoptic": Entry("detr-panoptic", "detr-tiny that paints segments, 2.48 M parameters."),
    "bert-tiny": Entry("bert", "BERT with 2 layers 128 wide, 4.39 M parameters."),
    "bert-mini": Entry("bert", "BERT with 4 layers 256 wide, 11.2 M parameters."),
    "bert-small": Entry("bert", "BERT with 4 layers 512 wide, 28.8 M parameters."),
    "bert-medium": Entry("bert", "BERT with 8 layers 512 wide, 41.4 M parameters."),
    "bert-base": Entry("bert", "BERT-base: 12 layers 768 wide, 109 M parameters."),
    "bert-large": Entry("bert", "BERT-large: 24 layers 1024 wide, 335 M parameters."),
    "gpt-mini": Entry("gpt", "GPT with 6 layers 256 wide, for one's own text, 6.9 M parameters."),
    "gpt2": Entry("gpt", "GPT-2: 12 layers 768 wide, 124 M parameters."),
    "gpt2-medium": Entry("gpt", "GPT-2 medium: 24 layers 1024 wide, 355 M parameters."),
    "gpt2-large": Entry("gpt", "GPT-2 large: 36 layers 1280 wide, 774 M parameters."),
    "gpt2-xl": Entry("gpt", "GPT-2 XL: 48 layers 1600 wide, 1558 M parameters."),
    "transformer-tiny": Entry("transformer", "Encoder-decoder of width 128, 2 + 2 blocks, 1.44 M parameters."),
    "transformer-small": Entry("transformer", "Encoder-decoder of width 256, 3 + 3 blocks, 7.6 M parameters."),
    "transformer-base": Entry("transformer", "The base model of the 2017 paper, 63.1 M parameters."),
    "transformer-big": Entry("transformer", "The big model of the 2017 paper, 214 M parameters."),
    "parallel-transformer-tiny": Entry(
        "parallel-transformer", "Writes all words at once: width 128, 2 + 2 blocks, 1.70 M parameters."
    ),
    "parallel-transformer-small": Entry(
        "parallel-transformer", "Writes all words at once: width 256, 3 + 3 blocks, 8.10 M parameters."
    ),
}


TASKS: dict[str, Entry] = {
    "translate": Entry("vitrail.tasks.translate:Translate", "Write in one language what a sentence says in another."),
    "translate-parallel": Entry(
        "vitrail.tasks.translate_parallel:TranslateParallel", "Translate with all words at once, and mend them."
    ),
    "causal-lm": Entry("vitrail.tasks.language:CausalLanguage", "Foretell the next word of a text."),
    "masked-lm": Entry("vitrail.tasks.language:MaskedLanguage", "Guess the hidden words of a text."),
    "tag": Entry("vitrail.tasks.tag:Tag", "Say of each word of a sentence what it is."),
    "answer": Entry("vitrail.tasks.answer:AnswerQuestions", "Find the words of a text that answer a question."),
    "panoptic": Entry("vitrail.tasks.panoptic:Panoptic", "Say of every pixel of which thing, or which stuff, it is."),
    "detect": Entry("vitrail.tasks.detect:Detect", "Find the objects in a picture, each with its class and its box."),
    "classify": Entry("vitrail.tasks.classify:Classify", "Say which class, or which classes, a picture belongs to."),
    "distil": Entry("vitrail.tasks.distill:Distil", "Classify, and listen to a teacher that already can."),
}

RECIPES: dict[str, Entry] = {
    "detect": Entry(
        "vitrail.recipes.detection:detect", "A detector on any pictures with marked objects.", ("detect", "panoptic")
    ),
    "detr-panoptic": Entry(
        "vitrail.recipes.detection:panoptic",
        "Segments of things and stuff, fresh or on a detector that is there.",
        ("panoptic",),
    ),
    "classify": Entry(
        "vitrail.recipes.vit:classify", "Any classifier on any labelled pictures, fresh or fine-tuned.", ("classify",)
    ),
    "demo": Entry(
        "vitrail.recipes.demo:demo", "A small ViT on generated scenes, in minutes on a processor.", ("classify",)
    ),
    "transformer-small-translation": Entry(
        "vitrail.recipes.text:translation", "A small Transformer that translates.", ("translate",)
    ),
    "parallel-transformer-small-translation": Entry(
        "vitrail.recipes.text:parallel_translation",
        "A small Transformer that translates all words at once.",
        ("translate",),
    ),
    "bert-mini-mlm": Entry(
        "vitrail.recipes.text:masked", "A small BERT that guesses hidden words of running text.", ("language",)
    ),
    "bert-mini-classify": Entry("vitrail.recipes.text:labels", "A small BERT on labelled texts.", ("classify-text",)),
    "bert-mini-tag": Entry("vitrail.recipes.text:tagging", "A small BERT that tags words.", ("tag",)),
    "bert-mini-answer": Entry(
        "vitrail.recipes.text:answering", "A small BERT that answers questions out of a text.", ("answer",)
    ),
    "word2vec": Entry(
        "vitrail.train.words:WordRecipe",
        "Word vectors, learned from running text by gensim.",
        ("language", "classify-text", "tag", "answer"),
    ),
    "gpt-mini-language": Entry(
        "vitrail.recipes.text:causal", "A small GPT that goes on with running text.", ("language",)
    ),
}


def load(entry: Entry) -> Any:
    """What an entry leads to."""
    if not isinstance(entry.target, str):
        return entry.target
    module, _, attribute = entry.target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def family_of_model(name: str) -> Any:
    """The family that a model in the catalog belongs to."""
    return load(FAMILIES[MODELS[name].target])
