"""The job of higgs.yaml in Spark MLlib, from Parquet to the test AUC, on two worker processes of one core each
(`local-cluster`); one JSON line on stdout. Needs Java 17 and `pip install pyspark==3.5.5`.

    python peer_spark_higgs.py FOLDER [MEMORY OF A WORKER IN MIB]
"""

import json
import pathlib
import sys

from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import StandardScaler, VectorAssembler

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from spark import session  # noqa: E402

L2 = 1e-6
TOLERANCE = 1e-6


def main() -> None:
    memory = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    spark = session("higgs", memory)
    spark.sparkContext.setLogLevel("ERROR")
    rows = spark.read.parquet(sys.argv[1])
    names = [n for n in rows.columns if n.startswith("x")]
    train = rows.where("part = 'train'")
    test = rows.where("part = 'test'")
    steps = [
        VectorAssembler(inputCols=names, outputCol="raw"),
        StandardScaler(inputCol="raw", outputCol="features", withMean=True, withStd=True),
        # Standardised already; the penalty is on standardised coefficients in both programs.
        LogisticRegression(regParam=L2, tol=TOLERANCE, maxIter=1000, standardization=False),
    ]
    fitted = Pipeline(stages=steps).fit(train)
    auc = BinaryClassificationEvaluator(rawPredictionCol="rawPrediction").evaluate(fitted.transform(test))
    scaler, model = fitted.stages[1], fitted.stages[2]
    scale = dict(zip(names, map(float, scaler.std)))
    print(json.dumps({
        "auc": auc,
        "iterations": model.summary.totalIterations,
        "coefficients": {n: float(c) / scale[n] for n, c in zip(names, model.coefficients)},
        "scale": scale,
    }))
    spark.stop()


if __name__ == "__main__":
    main()
