"""Fits a classifier of scikit-learn's bundled breast cancer data, after a cross-validation."""

import argparse
import json
import time
from pathlib import Path

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output-dir", type=Path, default=Path("outputs"), help="where the model and metrics go")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--regularization", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0, help="fixes which samples make a fold")
    return parser.parse_args()


def main():
    args = options()
    args.output_dir.mkdir(exist_ok=True)
    samples, classes = load_breast_cancer(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1 / args.regularization, max_iter=1000))
    folds = StratifiedKFold(args.folds, shuffle=True, random_state=args.seed)

    with (args.output_dir / "metrics.jsonl").open("w") as metrics:
        for fold, (train, held_out) in enumerate(folds.split(samples, classes), start=1):
            pipeline.fit(samples[train], classes[train])
            accuracy = pipeline.score(samples[held_out], classes[held_out])
            loss = log_loss(classes[held_out], pipeline.predict_proba(samples[held_out]))
            print(f"fold={fold}: accuracy {accuracy:.3f}, log loss {loss:.3f}", flush=True)
            for name, value in {"accuracy": accuracy, "log_loss": loss}.items():
                metrics.write(json.dumps({"name": name, "step": fold, "value": value, "time": time.time()}) + "\n")
            metrics.flush()

    joblib.dump(pipeline.fit(samples, classes), args.output_dir / "model.joblib")


if __name__ == "__main__":
    main()
