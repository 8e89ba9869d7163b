"""Optimizers in plain NumPy: self-scaled Broyden by the Hessian, and SOAP by its definition."""

import numpy as np


def hessian_update(kind, hessian, s, y, first=False):
    """The Hessian after the pair (s, y): the update of B, where the package updates H = 1/B.

    B <- tau (B - Bs s'B / s'Bs + theta s'Bs w w') + y y' / y's,   w = y / y's - Bs / s'Bs
    """
    bs, n = hessian @ s, len(s)
    b = s @ bs / (s @ y)
    h = y @ np.linalg.solve(hessian, y) / (s @ y)
    theta, tau = (0.0, min(1, 1 / b)) if kind == "ssbfgs" else (0.0, 1.0)
    if kind == "ssbroyden":
        a = b * h - 1
        least = min(1, h * (1 - np.sqrt(a / (1 + a))))
        theta = max((least - 1) / a, min(1 / least, (1 - b) / b))
        root = (1 + a * theta) ** (1 / (1 - n))
        tau = min(1, 1 / b) * min(root, 1 / theta) if theta > 0 else None
        tau = min(min(1, 1 / b) * root, 1 + a * theta) if theta <= 0 else tau
    if first:
        tau = h / (1 + (b * h - 1) * theta)
    w = y / (s @ y) - bs / (s @ bs)
    rest = hessian - np.outer(bs, bs) / (s @ bs) + theta * (s @ bs) * np.outer(w, w)
    return tau * rest + np.outer(y, y) / (s @ y)


def inverse_by_pairs(pairs, n):
    """H of L-BFGS: a multiple of the identity and one BFGS update for each pair, oldest first."""
    s, y = pairs[-1]
    inverse = np.eye(n) * (s @ y) / (y @ y)
    for s, y in pairs:
        left = np.eye(n) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    return inverse


def soap(gradient, weight, rate, steps, settings):
    """The matrices after each of `steps` updates of SOAP from `weight`."""
    b1, b2, eps, frequency = settings
    rows, columns = weight.shape
    left, right = np.zeros((rows, rows)), np.zeros((columns, columns))
    mean = np.zeros_like(weight)
    square = np.zeros_like(weight)
    path = []
    for t in range(steps):
        grad = gradient(weight, t)
        if t > 0:
            mean = b1 * mean + (1 - b1) * grad
            square = b2 * square + (1 - b2) * (u.T @ grad @ v) ** 2
            ahead = u.T @ mean @ v / (1 - b1**t)
            weight = weight - rate * u @ (ahead / (np.sqrt(square / (1 - b2**t)) + eps)) @ v.T
        left = b2 * left + (1 - b2) * grad @ grad.T
        right = b2 * right + (1 - b2) * grad.T @ grad
        if t == 0:
            u, v = (np.linalg.svd(moment)[0] for moment in (left, right))
        elif t % frequency == 0:
            rows_by, columns_by = (
                np.argsort(-np.diag(q.T @ moment @ q)) for moment, q in ((left, u), (right, v))
            )
            square = square[rows_by][:, columns_by]
            u = np.linalg.qr(left @ u[:, rows_by])[0]
            v = np.linalg.qr(right @ v[:, columns_by])[0]
        path.append(weight)
    return np.array(path)
