"""Published figures on COCO and Flickr30k: open_clip's own table.

Zero-shot, captions as they are (no prompt), Karpathy's test splits: 5,000 images of COCO, 1,000
of Flickr30k. A figure belongs beside a run of the same architecture and weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = (
    "https://github.com/mlfoundations/open_clip/blob/"
    "05e7db4987eda177906dc164b4c3ebeb39a9991a/docs/openclip_retrieval_results.csv"
)

_CUTOFFS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Figures:
    """R@k by k as shares, of one data set and one model."""

    text_to_image: Mapping[int, float]
    image_to_text: Mapping[int, float]
    source: str = SOURCE


# architecture, tag: Flickr30k text to image and image to text, COCO text to image and image to
# text, each R@1, R@5, R@10 in per cent.
_TABLE = """
ViT-B-32          openai              58.78 83.56 90.02  78.90 94.90 98.20  30.44 55.94 66.87  50.12 75.00 83.52
ViT-B-32          laion400m_e32       59.62 83.96 90.20  77.70 94.10 96.80  34.31 60.00 70.54  52.44 76.42 84.54
ViT-B-32          laion2b_s34b_b79k   66.78 88.38 93.10  84.10 96.20 98.30  39.34 65.43 75.61  56.32 79.84 87.12
ViT-B-32          datacomp_xl_s13b_b90k 61.08 84.92 90.92 79.00 93.90 96.20 37.14 62.35 72.68  53.54 77.78 86.04
ViT-B-32-256      datacomp_s34b_b86k  64.92 87.22 92.16  84.80 96.70 98.50  39.93 65.43 75.24  57.92 80.56 88.10
ViT-B-32          metaclip_400m       62.34 85.58 91.52  77.80 93.50 97.00  35.91 61.79 72.09  51.82 76.40 84.66
ViT-B-16          openai              62.16 85.72 91.92  82.20 96.60 99.00  33.09 58.42 68.99  52.42 76.70 84.62
ViT-B-16          laion2b_s34b_b88k   69.84 90.38 94.56  86.30 97.90 99.40  42.31 67.70 77.06  59.44 81.78 88.62
ViT-B-16          datacomp_xl_s13b_b90k 67.56 88.34 93.00 85.10 97.20 98.40 40.16 65.95 75.62  57.44 80.86 88.30
ViT-L-14          openai              64.96 87.24 92.04  85.20 97.40 99.20  36.51 61.06 71.13  56.34 79.38 86.60
ViT-L-14-336      openai              66.90 89.00 93.34  87.70 98.50 99.40  37.09 61.62 71.47  57.94 81.20 87.92
ViT-L-14          laion2b_s32b_b82k   75.52 92.86 95.94  89.50 98.70 99.40  46.51 71.08 79.80  63.36 83.98 90.74
ViT-L-14          datacomp_xl_s13b_b90k 73.38 91.74 95.54 89.00 98.60 99.20 45.73 70.03 79.16  63.30 84.14 90.40
ViT-H-14          laion2b_s32b_b79k   77.64 94.18 96.60  90.70 99.20 99.70  49.48 73.38 81.51  65.92 86.06 91.88
ViT-bigG-14       laion2b_s39b_b160k  79.56 94.98 97.14  92.90 99.30 99.70  51.37 74.90 83.00  67.38 86.86 92.66
ViT-B-16-SigLIP   webli               74.68 92.30 95.62  89.10 98.00 99.30  47.78 72.44 81.00  65.74 85.42 91.26
ViT-L-16-SigLIP-384 webli             81.42 95.36 97.48  93.70 99.20 99.90  53.91 76.57 83.99  71.90 90.06 94.10
ViT-SO400M-14-SigLIP-384 webli        82.96 96.10 98.04  94.30 99.70 99.80  54.21 76.78 84.24  72.42 89.98 94.48
"""  # noqa: E501


def published(dataset: str, encoder: str) -> Figures | None:
    """Return the figures of an encoder's model on "coco" or "flickr30k", None where none are.

    encoder: its name, such as "clip:ViT-B-32/openai"; `-quickgelu` changes nothing of a model
             whose weights are used with it anyway.
    """
    name = encoder.removeprefix("clip:")
    architecture, _, tag = name.rpartition("/")
    architecture = architecture.replace("/", "-").removesuffix("-quickgelu")
    return _FIGURES.get((dataset, architecture, tag.lower().replace("-", "_")))


def _read() -> dict[tuple[str, str, str], Figures]:
    figures = {}
    for line in _TABLE.strip().splitlines():
        architecture, tag, *values = line.split()
        shares = [round(float(value) / 100, 4) for value in values]
        groups = [dict(zip(_CUTOFFS, shares[at : at + 3], strict=True)) for at in (0, 3, 6, 9)]
        figures["flickr30k", architecture, tag] = Figures(groups[0], groups[1])
        figures["coco", architecture, tag] = Figures(groups[2], groups[3])
    return figures


_FIGURES = _read()
