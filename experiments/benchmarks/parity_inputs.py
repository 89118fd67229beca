"""What `gpu_parity` trains on: the tiny model's own answers, or random ids for random weights of the size of the paper's.

Nothing here is a result; `python -m experiments.benchmarks.gpu_parity` is the command.
"""

from pathlib import Path

import torch

ROWS = 128  # of the tiny world
LARGE_ROWS, LARGE_PROMPT_TOKENS, LARGE_RESPONSE_TOKENS = 64, 100, 1400
LARGE_SHAPE = dict(  # of Qwen2.5-Math-1.5B
    hidden_size=1536,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    intermediate_size=8960,
    vocab_size=151936,
    tie_word_embeddings=True,
)


def sample(cfg) -> dict[str, list]:
    """Prompts of the tiny world and the tiny model's own answers, as token ids."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr.tiny import datasets
    from rlvr.verl_cpu.generation import Generator, Sampling

    tokenizer = AutoTokenizer.from_pretrained(cfg.base_model.path)
    model = AutoModelForCausalLM.from_pretrained(cfg.base_model.path, dtype=torch.float32).eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}], add_generation_prompt=True, tokenize=False
        )
        for row in datasets.load("pool")[: ROWS // cfg.scale.samples_per_prompt]
    ]
    prompts = [ids for text in texts for ids in [tokenizer(text).input_ids] * cfg.scale.samples_per_prompt]
    sampling = [Sampling(cfg.scale.max_response_tokens, cfg.scale.temperature, seed=i) for i in range(ROWS)]
    answers = Generator(model, (tokenizer.eos_token_id,)).generate(prompts, sampling)
    return {"prompts": prompts, "responses": [answer.token_ids for answer in answers]}


def draw_large(generator: torch.Generator) -> dict[str, list]:
    """Random prompts and responses, as token ids, for the large model."""
    lengths = {"prompts": LARGE_PROMPT_TOKENS, "responses": LARGE_RESPONSE_TOKENS}
    return {
        name: torch.randint(1000, 100_000, (LARGE_ROWS, length), generator=generator).tolist()
        for name, length in lengths.items()
    }


def make_large_model(folder: Path) -> None:
    """Write random weights of the shape of Qwen2.5-Math-1.5B; the tiny model's tokenizer stands in, unused."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from rlvr.config.schema import package_path

    Qwen2ForCausalLM(Qwen2Config(**LARGE_SHAPE)).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(package_path("rlvr.tiny", "model")).save_pretrained(folder)


def tensordict(rows: dict[str, list], temperature: float, columns: dict[str, list]):
    """A batch as verl's trainer hands it to a worker: jagged columns, and the options as non-tensor data."""
    from verl.utils import tensordict_utils as tu

    ids = [prompt + response for prompt, response in zip(rows["prompts"], rows["responses"], strict=True)]
    mask = [[1] * len(response) for response in rows["responses"]]
    columns = columns | rows | {"input_ids": ids, "position_ids": [list(range(len(row))) for row in ids]}
    columns |= {"response_mask": mask, "loss_mask": mask}
    jagged = {
        name: torch.nested.as_nested_tensor([torch.as_tensor(row) for row in column], layout=torch.jagged)
        for name, column in columns.items()
    }
    options = dict(global_batch_size=len(ids), calculate_entropy=True, compute_loss=False)
    options |= dict(mini_batch_size=len(ids), epochs=1, seed=0, dataloader_kwargs={"shuffle": False})
    return tu.get_tensordict(jagged, options | {"temperature": temperature})
