"""Makes tests/fixtures/files: small files of texts and pictures as pyarrow and Pillow write them.

    python tools/make_file_fixtures.py     # needs pyarrow and pillow
"""

import io
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/files"
TEXTS = [f"{['a plain', 'ein schönes', '一个'][i % 3]} text, number {i // 2}" for i in range(60)]
LABELS = [i % 2 for i in range(60)]
NAMES = json.dumps(
    {
        "info": {
            "features": {
                "text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
            }
        }
    }
)


def parquet():
    table = pa.table({"text": TEXTS, "label": pa.array(LABELS, pa.int64())})
    table = table.replace_schema_metadata({"huggingface": NAMES})
    write = lambda name, **how: pq.write_table(table, OUT / name, **how)
    for codec in ["snappy", "gzip", "brotli", "zstd", "lz4", "none"]:
        write(f"{codec}.parquet", compression=codec, row_group_size=40)
    for codec in ["zstd", "snappy"]:
        write(f"{codec}-v2.parquet", compression=codec, data_page_version="2.0", data_page_size=256)
    write(
        "delta.parquet",
        compression="zstd",
        use_dictionary=False,
        column_encoding={"text": "DELTA_BYTE_ARRAY", "label": "DELTA_BINARY_PACKED"},
    )
    write(
        "delta-lengths.parquet",
        compression="brotli",
        use_dictionary=False,
        column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY"},
    )
    missing = pa.table({"text": ["one", None, " ", "two"], "label": pa.array([0, 1, 0, 1], pa.int32())})
    pq.write_table(missing, OUT / "missing.parquet", compression="zstd", store_schema=False)


def named(column, names, **others):
    """What Hugging Face's tools say of a column of lists of classes."""
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
    return {"huggingface": json.dumps({"info": {"features": {column: feature, **others}}})}


def lists():
    rows = range(60)
    table = pa.table(
        {
            "tokens": [[f"w{row}-{at}" for at in range(1 + row % 5)] for row in rows],
            "ner_tags": pa.array([[(row + at) % 3 for at in range(1 + row % 5)] for row in rows], pa.list_(pa.int64())),
        }
    ).replace_schema_metadata(named("ner_tags", ["O", "B-PER", "I-PER", "B-LOC"]))
    pq.write_table(table, OUT / "words.parquet", compression="zstd", row_group_size=25)
    pq.write_table(table, OUT / "words-v2.parquet", compression="snappy", data_page_version="2.0", data_page_size=64)
    names = ["joy", "anger", "love"]
    several = [[names.index(name) for bit, name in enumerate(["anger", "joy", "love"]) if row >> bit & 1] for row in rows]
    table = pa.table({"text": TEXTS, "labels": pa.array(several, pa.list_(pa.int32()))})
    pq.write_table(table.replace_schema_metadata(named("labels", names)), OUT / "several.parquet", compression="zstd")
    answers = [
        {"text": ["Zahl", "ist"][: row % 3], "answer_start": [5, 13][: row % 3]} for row in range(30)
    ]
    kind = pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())})
    table = pa.table(
        {
            "id": [f"id-{row}" for row in range(30)],
            "title": ["t"] * 30,
            "context": [f"Eine Zahl {row // 3:02} ist da." for row in range(30)],
            "question": ["Was?"] * 30,
            "answers": pa.array(answers, kind),
        }
    )
    pq.write_table(table, OUT / "squad.parquet", compression="snappy", row_group_size=20)


def pictures():
    # Six by four, every pixel another colour, so that a turn shows.
    y, x = np.mgrid[0:4, 0:6]
    colour = np.stack([40 * x, 60 * y, 255 - 30 * x], axis=-1).astype(np.uint8)
    image = Image.fromarray(colour)
    image.save(OUT / "upright.png")
    for orientation in range(1, 9):
        # Pixels as a camera that was held so stores them.
        turns = {
            1: [],
            2: [Image.FLIP_LEFT_RIGHT],
            3: [Image.ROTATE_180],
            4: [Image.FLIP_TOP_BOTTOM],
            5: [Image.TRANSPOSE],
            6: [Image.ROTATE_90],
            7: [Image.TRANSVERSE],
            8: [Image.ROTATE_270],
        }
        stored = image
        for turn in turns[orientation]:
            stored = stored.transpose(turn)
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(OUT / f"exif-{orientation}.png", exif=exif)
        stored.save(OUT / f"exif-{orientation}.webp", lossless=True, exif=exif)
        stored.save(OUT / f"exif-{orientation}.tiff", tiffinfo={274: orientation})
    # A grey ramp: CMYK, 16 bits, palette, and each with transparency.
    grey = np.array([[0, 60, 120, 180, 240, 255]] * 4, np.uint8)
    Image.fromarray(grey).save(OUT / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(OUT / "grey-16.png")
    Image.fromarray(grey).save(OUT / "grey.gif")
    Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK").save(OUT / "cmyk.jpg", quality=100)
    alpha = np.array([[255, 255, 255, 128, 0, 0]] * 4, np.uint8)
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(OUT / "grey-alpha.png")
    layered = Image.merge("RGBA", [Image.fromarray(grey)] * 3 + [Image.fromarray(alpha)])
    layered.save(OUT / "alpha.png")
    layered.save(OUT / "alpha.webp", lossless=True, exact=True)
    layered.save(OUT / "alpha.tiff")
    palette = Image.fromarray(grey).convert("P")
    palette.save(OUT / "palette-alpha.png", transparency=0)


OUT.mkdir(parents=True, exist_ok=True)
parquet()
lists()
pictures()
