"""Draw the picture of the README anew, with the product itself: `make pictures`.

Takes the run that `make demo` left, or makes it first.
"""

import tempfile
from pathlib import Path

from PIL import Image

from vitrail.data.open import open_dataset
from vitrail.predict import predictor
from vitrail.recipes.tour import SCENES, draw_attention, tour

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 960  # pixels


def main() -> None:
    run = ROOT / "demo" / "run"
    if not run.exists():
        run = tour(ROOT / "demo")
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "attention.png"
        draw_attention(predictor(run), open_dataset(SCENES, "test"), large, count=4)
        picture = Image.open(large).convert("RGB")
        picture.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
        picture.quantize(128).save(ROOT / "docs" / "pictures" / "attention.png", optimize=True)


if __name__ == "__main__":
    main()
