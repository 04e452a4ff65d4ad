"""Writes digits.npz and breast_cancer.csv from the copies that scikit-learn brings along.

    pip install scikit-learn
    python programs/data/export.py

The rows of both are shuffled once, with the seeds below, so that any slice is a fair sample.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

HERE = Path(__file__).parent
DIGITS_SEED = 20
CANCER_SEED = 30


def digits() -> None:
    """Write x: uint8[1797, 64], pixels from 0 to 16, and y: int64[1797], the digit."""
    data = load_digits()
    order = np.random.RandomState(DIGITS_SEED).permutation(len(data.target))
    x = data.data.astype(np.uint8)[order]
    y = data.target.astype(np.int64)[order]
    assert x.shape == (1797, 64)
    assert np.array_equal(x, data.data[order])
    np.savez_compressed(HERE / "digits.npz", x=x, y=y)


def breast_cancer() -> None:
    """Write a header and 569 lines: thirty measurements, then 1 for benign or 0 for malignant."""
    data = load_breast_cancer()
    order = np.random.RandomState(CANCER_SEED).permutation(len(data.target))
    names = [name.replace(" ", "_") for name in data.feature_names]
    assert all(name.isidentifier() for name in names)
    lines = [",".join([*names, "benign"])]
    for row, benign in zip(data.data[order], data.target[order], strict=True):
        lines.append(",".join([*(repr(float(value)) for value in row), str(int(benign))]))
    (HERE / "breast_cancer.csv").write_text("\n".join(lines) + "\n", encoding="ascii")


if __name__ == "__main__":
    digits()
    breast_cancer()
