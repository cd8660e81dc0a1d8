"""Runs exported models in onnxruntime: of each folder `model.onnx` over the rows of `features.bin`, into `out.json`."""
import json
import pathlib
import sys

import numpy as np
import onnxruntime as ort

for folder in map(pathlib.Path, sys.argv[1:]):
    case = json.loads((folder / "case.json").read_text())
    read = lambda name, columns: np.fromfile(folder / name, dtype=case["type"]).reshape(-1, columns)
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    feeds = {"features": read("features.bin", case["columns"])}
    if any(value.name == "offset" for value in session.get_inputs()):
        feeds["offset"] = read("offset.bin", 1)
    names = [value.name for value in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, feeds)))
    result = {
        "runtime": ort.__version__,
        "shapes": {name: list(value.shape) for name, value in outputs.items()},
        "outputs": {name: value.reshape(-1).tolist() for name, value in outputs.items()},
        "metadata": session.get_modelmeta().custom_metadata_map,
    }
    (folder / "out.json").write_text(json.dumps(result))
