"""CPU time of LightGBM on the rows that `trees_speed` wrote: peer.py FILE COLUMNS TREES DEPTH"""
import sys, time
import lightgbm as lgb, numpy as np
path, columns, trees, depth = sys.argv[1], *map(int, sys.argv[2:])
rows = np.fromfile(path, dtype=np.float32).reshape(-1, columns + 1)
x, y = np.ascontiguousarray(rows[:, :columns]), rows[:, columns].astype(np.float64)
for more in [dict(force_row_wise=True), dict(force_row_wise=True, use_quantized_grad=True, num_grad_quant_bins=64)]:
    params = dict(objective="binary", num_leaves=2**depth, max_depth=depth, learning_rate=0.1, min_data_in_leaf=20, max_bin=255, num_threads=1, verbosity=-1, **more)
    t = time.process_time()
    d = lgb.Dataset(x, y, params=params).construct()
    bins = time.process_time() - t
    times = []
    b = lgb.Booster(params, d)
    for _ in range(trees):
        t = time.process_time(); b.update(); times.append(time.process_time() - t)
    p = b.predict(x[:200000], num_threads=1)
    t = time.process_time(); p = b.predict(x, num_threads=1); t = time.process_time() - t
    loss = -np.mean(y*np.log(p)+(1-y)*np.log(1-p))
    print(f"lightgbm {lgb.__version__} {sorted(more)}: bins {bins*1e3:.0f} ms, tree min {min(times)*1e3:.1f} mean {np.mean(times)*1e3:.1f} ms, predict {len(y)/t/1e6:.2f} M rows/s, loss {loss}")
