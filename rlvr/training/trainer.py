"""verl's synchronous trainer, writing this project's run folder. Runs inside a Ray actor (`rlvr.training.task_runner`).

It adds to `PPOTrainerSync`:
1. Evaluation on several benchmarks, each with its own sampling, every response kept in Parquet.
2. One line of metrics.jsonl per step, each step once, also after a crash and resume.
3. Training accuracy, the shares of the grader's reasons and of groups with a learning signal, beside verl's metrics.
4. Checkpoints are thinned out to what `retention` says once a step's metrics are on disk.
5. A first step that shows a mistake ends the run (`rlvr.training.first_step_check`).
6. A reward that depends on the other responses of the step is set before the advantages (`reward_rule=majority`).
"""

import time
from collections import defaultdict
from concurrent.futures import Future

import numpy as np
import pyarrow.parquet as pq
import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.debug import marked_timer

from rlvr.grading import REASONS
from rlvr.grading.reward_rules import vote
from rlvr.runs import retention, samples
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics_file import MetricsWriter
from rlvr.runs.plain_files import read_json, write_json
from rlvr.training import first_step_check
from rlvr.verl_torch import private_names, stop_texts

private_names.check(__name__)

SAMPLE_FIELDS = [
    "uid",
    "prompts",
    "responses",
    "rm_scores",
    "reward_model",
    "data_source",
    "extra_info",
    "extra_fields",
]
GRADED = ("response", "reason", "answer", "boxed", "repetition", "reflection")  # as the reward has them
VERL_NAMES = {
    "actor/pg_loss": "actor/pg_loss",
    "actor/entropy_loss": "actor/entropy",
    "actor/kl_loss": "actor/kl",
    "actor/grad_norm": "actor/grad_norm",
    "actor/lr": "actor/lr",
    "critic/vf_loss": "critic/value_loss",
    "critic/grad_norm": "critic/grad_norm",
    "critic/vf_explained_var": "critic/explained_variance",
    "training/rollout_probs_diff_max": "rollout/probs_diff_max",
    "training/rollout_probs_diff_mean": "rollout/probs_diff_mean",
    "timing_s/step": "time/step_s",
    "timing_s/gen": "time/generate_s",
    "timing_s/old_log_prob": "time/old_log_prob_s",
    "timing_s/ref": "time/reference_s",
    "timing_s/values": "time/values_s",
    "timing_s/update_critic": "time/update_critic_s",
    "timing_s/update_actor": "time/update_s",
    "timing_s/update_weights": "time/sync_s",
    "timing_s/testing": "time/eval_s",
    "timing_s/save_checkpoint": "time/save_s",
}


class RunFolderTrainer(PPOTrainerSync):
    """`PPOTrainerSync` that keeps the run folder; `config.run_dir` says which.

    queue: TransferQueue's start, which may continue while the workers load.
    """

    def __init__(self, config, queue: Future):
        super().__init__(config)
        self.queue = queue
        self.trained: tuple[KVBatchMeta, dict] | None = None  # the last step of this process and verl's metrics of it
        self.folder = RunFolder(config.run_dir)
        train = pq.read_table(self.folder.data_dir / "train.parquet", columns=["extra_info", "rank", "subject"])
        self.examples = {row["extra_info"]["index"]: row for row in train.to_pylist()}

    def _load_checkpoint(self):
        self.queue.result()
        super()._load_checkpoint()
        resumed = self.global_steps > 0
        self.metrics_writer = MetricsWriter(self.folder.metrics_path, resume_at=self.global_steps if resumed else None)
        if resumed:  # evaluate first when the run ended during this step's evaluation
            self.config.trainer.val_before_train = self.metrics_writer.last_step < self.global_steps

    def _phase(self, text: str) -> None:
        self.folder.phase_path.write_text(text)

    def on_train_begin(self):
        self._phase("training")

    def _submit_batch_to_rollout(self, batch):
        with marked_timer("gen", self.timing_raw):
            return super()._submit_batch_to_rollout(batch)

    def step(self, metrics, timing_raw):
        batch = super().step(metrics, timing_raw)
        self.trained = batch, metrics
        return batch

    # ------------------------------------------------------------------ evaluation

    def _validate(self) -> dict[str, float]:
        """Answer every benchmark; writes eval/<benchmark>/step*.parquet and returns eval/<benchmark>/<metric>.

        The step's training metrics go to the checkpoint first: a run that ends during a long evaluation resumes from there.
        """
        started = time.perf_counter()
        unevaluated = self.folder.unevaluated_path(self.global_steps)
        if self.trained:
            self._add_training_metrics(*self.trained, self.timing_raw)
            if self.folder.is_resumable(self.global_steps):
                write_json(unevaluated, self._line(self.trained[1]))
        self._phase("evaluating")
        columns: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
        for rows in self.val_dataloader:
            rows["uid"] = np.array(
                [f"eval-{self.global_steps}-{i:06d}" for i in range(len(rows["raw_prompt"]))], object
            )
            # The number of answers to each row for verl's own agent loop; rlvr.training.row_sampling has the rest of the sampling.
            rows["__rollout_n__"] = np.array([row["sampling"]["n"] for row in rows["extra_info"]], object)
            batch = tu.get_tensordict(rows)
            tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
            tu.assign_non_tensor_data(batch, "validate", True)
            tags = [{"is_prompt": True, "status": "pending", "global_steps": self.global_steps}] * len(batch)
            tq.kv_batch_put(keys=list(batch["uid"]), partition_id="val", tags=tags)
            self.agent_loop_manager.generate_sequences(batch)
            sampled, _ = self.replay_buffer.sample(self.global_steps, partition_id="val", batch_size=len(batch))
            for row in self._samples(sampled, self.global_steps):
                for key, value in row.items():
                    columns[row["benchmark"]][key].append(value)
            tq.kv_clear(keys=sampled.keys, partition_id="val")
        metrics = {}
        for benchmark, rows in columns.items():
            samples.write(self.folder.eval_path(benchmark, self.global_steps), rows)
            metrics[f"eval/{benchmark}/accuracy"] = float(np.mean(rows["score"]))
            for name in ("boxed", "truncated", "response_tokens"):
                metrics[f"eval/{benchmark}/{name}"] = float(np.mean(rows[name]))
        if not self.trained:  # the base model, or a step whose evaluation was interrupted
            line = read_json(unevaluated) if self.global_steps else {"step": 0}
            metrics |= {name: value for name, value in line.items() if name != "step"}
            took = time.perf_counter() - started
            self.metrics_writer.write({"step": self.global_steps, **metrics, "time/eval_s": took})
        self._phase("training")
        return metrics

    def _samples(self, batch, step: int) -> list[dict]:
        """The responses of a batch, in the order of their prompts: all columns of rlvr.runs.samples."""
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=SAMPLE_FIELDS)
        prompts = [ids.tolist() for ids in data["prompts"].unbind()]
        responses = [ids.tolist() for ids in data["responses"].unbind()]
        rewards = [float(scores.sum()) for scores in data["rm_scores"].unbind()]
        # Each access to a non-tensor column copies all of it.
        golds = [label["ground_truth"] for label in _plain_column(data, "reward_model")]
        sources = _plain_column(data, "data_source")
        infos = _plain_column(data, "extra_info")
        graded = [
            fields["reward_extra_info"] for fields in _plain_column(data, "extra_fields")
        ]  # rlvr.training.rewards
        prompt_texts = {ids: self.tokenizer.decode(ids) for ids in set(map(tuple, prompts))}
        rows = []
        places = ((*key.rsplit("_", 2)[:2], i) for i, key in enumerate(batch.keys))
        for uid, sample, i in sorted(places, key=lambda place: (place[0], int(place[1]))):
            if batch.tags[i].get("is_padding"):
                continue
            testing = infos[i]["split"] == "test"
            about = {"id": str(infos[i]["index"]), "rank": 0} | (
                infos[i] if testing else self.examples[infos[i]["index"]]
            )
            limit = (infos[i].get("sampling") or {}).get("max_tokens") or self.config.data.max_response_length
            at = stop_texts.of_row(infos[i])
            tokens = len(responses[i])
            if graded[i]["stopped"]:
                whole = self.tokenizer.decode(responses[i], skip_special_tokens=True)
                _, tokens = stop_texts.ended(self.tokenizer, responses[i], whole, at)
            ends = (self.tokenizer.eos_token_id, *stop_texts.token_ids(self.tokenizer, at))
            rows.append(
                {
                    "step": step,
                    "benchmark": sources[i] if testing else "train",
                    "id": about["id"],
                    "subject": about["subject"],
                    "uid": about["id"] if testing else uid,
                    "sample": int(sample),
                    "rank": about["rank"],
                    "prompt": prompt_texts[tuple(prompts[i])],
                    "gold": golds[i],
                    "score": float(graded[i]["acc"]),
                    "reward": rewards[i],
                    "truncated": not graded[i]["stopped"] and tokens >= limit and responses[i][-1] not in ends,
                    "response_tokens": tokens,
                    **{name: graded[i][name] for name in GRADED},
                }
            )
        return rows

    # ------------------------------------------------------------------ training

    def _compute_advantage(self, batch, metrics):
        if self.config.reward.custom_reward_function.reward_kwargs.rule == "majority":
            self._set_votes(batch)
        return super()._compute_advantage(batch, metrics)

    def _set_votes(self, batch) -> None:
        fields = ["responses", "extra_info", "extra_fields"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        responses = data["responses"].unbind()
        answers = [fields["reward_extra_info"]["answer"] for fields in _plain_column(data, "extra_fields")]
        counted = [i for i, tag in enumerate(batch.tags) if not tag.get("is_padding")]
        examples = [info["index"] for info in _plain_column(data, "extra_info")]
        rewards = vote([answers[i] for i in counted], [examples[i] for i in counted])
        scores = [torch.zeros(len(ids)) for ids in responses]
        for i, reward in zip(counted, rewards, strict=True):
            scores[i][-1] = reward
        written = {"rm_scores": torch.nested.as_nested_tensor(scores, layout=torch.jagged)}
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=tu.get_tensordict(written))

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        if "train/accuracy" not in metrics:  # a step without evaluation
            self._add_training_metrics(batch, metrics, timing_raw)
        if "testing" in timing_raw:
            metrics["timing_s/testing"] = timing_raw["testing"]
        self.metrics_writer.write(self._line(metrics))
        if self.folder.is_resumable(global_steps):  # a checkpoint of this step, now with its metrics
            retention.apply(self.folder, self.config.retention, self.config.scale.save_every)

    def _line(self, metrics: dict) -> dict[str, float]:
        """A step's line of metrics.jsonl."""
        line = {"step": self.global_steps}
        line |= {key: float(value) for key, value in metrics.items() if key.startswith(("train/", "eval/"))}
        return line | {ours: float(metrics[verls]) for verls, ours in VERL_NAMES.items() if verls in metrics}

    def _add_training_metrics(self, batch, metrics, timing_raw) -> None:
        """Write the step's responses, and add verl's metrics and train/<metric> to `metrics`."""
        step = self.global_steps
        super()._compute_metrics(batch, metrics, timing_raw, step, (step - 1) // self.steps_per_epoch)
        columns = defaultdict(list)
        groups = defaultdict(list)
        for row in self._samples(batch, step):
            groups[row["uid"]].append(row["reward"])
            for key, value in row.items():
                columns[key].append(value)
        samples.write(self.folder.rollouts_path(step), columns)
        learns_from_rewards = self.config.loss.policy != "none"
        own_reward = (
            self.config.reward_rule.file is not None
        )  # a reward of 0 has no fixed meaning in a user's own reward
        if step == 1 and learns_from_rewards and self.config.scale.fail_fast and not own_reward:
            first_step_check.check(columns)
        metrics["train/accuracy"] = float(np.mean(columns["score"]))
        for name in ("reward", "boxed", "truncated", "response_tokens"):
            metrics[f"train/{name}"] = float(np.mean(columns[name]))
        metrics |= {
            f"train/grade_{reason}": columns["reason"].count(reason) / len(columns["reason"]) for reason in REASONS
        }
        metrics["train/signal_groups"] = float(np.mean([len(set(rewards)) > 1 for rewards in groups.values()]))


def _plain_column(data, name: str) -> list:
    """A non-tensor column of a TensorDict as Python values, one per row."""
    column = data.get(name)
    return column.tolist() if hasattr(column, "tolist") else list(column)
