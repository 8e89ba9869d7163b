"""Maps of coordinates to features, one number after another, in float64."""

import math

import numpy as np


def harmonics(x, frequencies, period):
    """cos(2 pi m u_a), then sin(2 pi m u_a), axes a within frequencies m = 1..frequencies.

    u runs through [0, 1) where x runs through [-period / 2, period / 2).
    """
    rows = []
    for point in np.asarray(x, np.float64):
        angles = [
            2 * math.pi * m * ((float(c) + period / 2) / period)
            for m in range(1, frequencies + 1)
            for c in point
        ]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return np.array(rows)


def positional_encoding(x, frequencies):
    """x, then sin(2^m pi x_a), then cos(2^m pi x_a), axes a within m = 0..frequencies - 1."""
    rows = []
    for point in np.asarray(x, np.float64):
        angles = [2**m * math.pi * float(c) for m in range(frequencies) for c in point]
        row = [float(c) for c in point]
        rows.append(row + [math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return np.array(rows)


def gaussian_features(x, matrix):
    """cos(2 pi b . x), then sin(2 pi b . x), for the rows b of `matrix`."""
    rows = []
    for point in np.asarray(x, np.float64):
        angles = [
            2 * math.pi * sum(b * c for b, c in zip(row, point, strict=True)) for row in matrix
        ]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return np.array(rows)
