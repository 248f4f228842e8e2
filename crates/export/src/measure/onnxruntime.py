"""Answers examples with an ONNX file: `python measure.py MODEL EXAMPLES.json ANSWERS.json`.

EXAMPLES.json has `ids` and `types`, the tokens of texts, or `length`, the numbers of an example in features.bin beside
it; the shortest come first. Ends with 3 where there is no onnxruntime.
"""

import json
import math
import pathlib
import sys
import time

try:
    import numpy
    import onnxruntime
except ImportError as missing:
    print(missing, file=sys.stderr)
    sys.exit(3)

PASSES, ROWS = 30, 32


def padded(rows):
    values = numpy.zeros((len(rows), max(map(len, rows))), dtype=numpy.int64)
    for at, row in enumerate(rows):
        values[at, : len(row)] = row
    return values


def reader(model, path):
    """The number of examples, and what gives the model's inputs for some of them."""
    asked = json.loads(path.read_text())
    if asked["length"]:
        features = numpy.fromfile(path.with_name("features.bin"), dtype="<f4").reshape(-1, asked["length"])
        return asked["one"], len(features), lambda rows: {"input": features[rows]}
    ids, types = asked["ids"], asked["types"]
    wanted = {value.name for value in model.get_inputs()}

    def inputs(rows):
        texts = {"input_ids": padded(ids[rows]), "token_type_ids": padded(types[rows])}
        texts["attention_mask"] = padded([[1] * len(row) for row in ids[rows]])
        return {name: value for name, value in texts.items() if name in wanted}

    return asked["one"], len(ids), inputs


def main(file, examples, answers):
    model = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    one, count, inputs = reader(model, pathlib.Path(examples))
    outputs = {value.name for value in model.get_outputs()}
    output = ["sentence_embedding" if "sentence_embedding" in outputs else "logits"]
    times, example = [], inputs(slice(one, one + 1))
    for _ in range(PASSES + 1):
        begun = time.perf_counter()
        model.run(output, example)
        times.append(time.perf_counter() - begun)
    batches = [inputs(slice(at, at + ROWS)) for at in range(0, count, ROWS)]
    model.run(output, batches[0])
    begun = time.perf_counter()
    found = [model.run(output, batch)[0] for batch in batches]
    seconds = time.perf_counter() - begun
    logits = numpy.concatenate(found).ravel().tolist()
    said = {
        "logits": [number if math.isfinite(number) else None for number in logits],
        "latency_ms": 1e3 * sorted(times[1:])[PASSES // 2],
        "examples_per_second": count / seconds,
        "runtime": f"onnxruntime {onnxruntime.__version__}, processor",
    }
    pathlib.Path(answers).write_text(json.dumps(said))


main(*sys.argv[1:])
