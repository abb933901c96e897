from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from expertree.pipeline.evaluate import _embedding_record
from expertree.pipeline.tables import write_table
from expertree.report.schema import check_run
from expertree.storage import Storage

ROWS = {
    "val_in": [(["rain"], "large rain"), (["haze"], "thick haze"), (["rain"], "small rain")],
    "val_out": [(["haze"], "normal haze"), (["noise", "rain"], "large noise, small rain")],
}


def test_the_picture_of_embeddings_names_each_validation_patch(tmp_path) -> None:
    rng = np.random.default_rng(0)
    tables, embeddings = {}, {}
    for split, rows in ROWS.items():
        tables[split] = Storage.open(tmp_path / "degrade" / split)
        embeddings[split] = Storage.open(tmp_path / "embed" / split)
        ids = [f"{split}/{row}" for row in range(len(rows))]
        names = {"tasks": [tasks for tasks, _ in rows], "caption": [name for _, name in rows]}
        write_table(tables[split], "part-0.parquet", pa.table({"id": ids, **names}))
        flat = pa.array(rng.normal(size=8 * len(rows)).astype(np.float32))
        column = pa.FixedSizeListArray.from_arrays(flat, 8)
        write_table(embeddings[split], "part-0.parquet", pa.table({"id": ids, "embedding": column}))
    record = _embedding_record(SimpleNamespace(tables=tables, embeddings=embeddings), seed=0)
    assert record["degradations"] == ["rain", "haze", "rain", "haze", "mixed"]
    assert record["captions"] == [name for rows in ROWS.values() for _, name in rows]
    assert record["distributions"] == ["in"] * 3 + ["out"] * 2
    assert len(record["pca"]) == len(record["tsne"]) == 5
    assert [one["label"] for one in record["separation"]] == ["rain", "haze", "mixed"]
    check_run({"title": "t", "embeddings": record}, {})
