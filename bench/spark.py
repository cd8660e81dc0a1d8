"""Spark on two worker processes of one core each (`local-cluster`), as all comparisons here start it."""

import os
import sys

from pyspark.sql import SparkSession


def session(name: str, memory: int) -> SparkSession:
    """A session of an application of this name; memory of a worker in MiB."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local-cluster[2,1,{memory}]").appName(name)
    settings = {
        "spark.executor.memory": f"{memory}m",
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
