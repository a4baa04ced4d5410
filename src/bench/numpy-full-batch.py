"""Full-batch GR-DPO (beta 1, eta_theta 0.9, eta_alpha 0.5) in NumPy: the peer of src/bench/bandit.ts, and started by it.

stdin: JSON {groups: one [n, d] list of differences each, theta: [d], iterations, seconds}
stdout: JSON {numpy, theta, alpha, iterations_per_second}; theta and alpha after `iterations`
"""
import json
import sys
import time

import numpy as np

job = json.load(sys.stdin)
groups = [np.array(group) for group in job["groups"]]
# All pairs as one matrix: NumPy's cost is by the call, not by the row.
rows = np.concatenate(groups)
starts = np.cumsum([0] + [len(group) for group in groups[:-1]])
sizes = np.array([len(group) for group in groups], dtype=float)
group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def run(iterations):
    theta = np.array(job["theta"])
    alpha = np.full(len(groups), 1 / len(groups))
    for _ in range(iterations):
        h = rows @ theta
        losses = np.add.reduceat(np.logaddexp(0.0, -h), starts) / sizes
        alpha = alpha * np.exp(0.5 * losses)
        alpha /= alpha.sum()
        slopes = -1 / (1 + np.exp(h))
        theta = theta - 0.9 * (((alpha / sizes)[group_of] * slopes) @ rows)
    return theta, alpha


theta, alpha = run(job["iterations"])
start = time.process_time()
calls = 0
while time.process_time() - start < job["seconds"]:
    run(job["iterations"])
    calls += 1
rate = calls * job["iterations"] / (time.process_time() - start)
json.dump({"numpy": np.__version__, "theta": list(theta), "alpha": list(alpha), "iterations_per_second": rate}, sys.stdout)
