import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model_artifacts.training.dose_student import distil, invent  # noqa: E402 (it imports torch)

TRADES = ((0,), (1, 2))


def people(n=300):
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (n, 5))
    masked = rows.copy()
    masked[:, 3] = 0
    return [torch.from_numpy(rows).float(), torch.from_numpy(masked).float()]


def teacher(rows):
    return 5 + np.sin(rows[:, 0]) + 0.5 * rows[:, 1] * rows[:, 2] / (1 + rows[:, 3] ** 2)


def test_dose_student_answers_as_its_teacher_on_people_it_never_saw():
    student = distil(teacher, people(), TRADES, gamma=0.02, seed=1)
    fresh = np.random.default_rng(9).normal(0, 1, (400, 5)).clip(-2, 2).astype(np.float32)
    answers = student(torch.from_numpy(fresh)).numpy()
    assert np.abs(answers - teacher(fresh)).mean() < 0.06
    assert teacher(fresh).std() > 0.7


def test_dose_student_is_the_same_each_time_and_holds_nobodys_row():
    one, two = (distil(teacher, people(), TRADES, gamma=0.02, seed=1) for _ in range(2))
    assert torch.equal(one.centres, two.centres)
    assert torch.equal(one.weights, two.weights)
    real = {tuple(row) for rows in people() for row in rows.double().numpy().round(6).tolist()}
    kept = [tuple(row) in real for row in one.centres.numpy().round(6).tolist()]
    assert np.mean(kept) < 0.02  # whoever was drawn twice


def test_dose_student_invented_people_trade_only_whole_groups_of_columns():
    rows = np.arange(2 * 50 * 5, dtype=float).reshape(2, 50, 5)
    made = invent(rows, TRADES, 500, np.random.default_rng(0))
    owner = made // 5 % 50  # whose value it is
    assert (owner[:, 1] == owner[:, 2]).all()
    assert (owner[:, 3] == owner[:, 4]).all()
    first, second = owner[:, 0] != owner[:, 3], owner[:, 1] != owner[:, 3]
    assert 0.6 < first.mean() < 0.7  # always a half, and of the other half three tenths
    assert (first | second).mean() > 0.95
