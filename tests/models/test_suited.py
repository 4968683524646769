"""What does not fit is said before any weight is loaded, in one line; an adapter's folder is its base with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.errors import UserError
from ckl_bench.models.find import find_model
from ckl_bench.models.suited import require_causal, stored_quantised
from ckl_bench.models.tiny import tiny_tokenizer
from conftest import Command
from helpers.architectures import make
from helpers.families import make_family

SMALL: dict[str, Any] = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def save(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckl_bench.models.find._load_weights", lambda *_: pytest.fail("weights were loaded"))


@pytest.mark.usefixtures("no_weights")
def test_what_is_no_decoder_is_refused(command: Command, small: Path, tmp_path: Path) -> None:
    from transformers import (
        BertConfig,
        BertLMHeadModel,
        ReformerConfig,
        ReformerModelWithLMHead,
        T5Config,
        T5ForConditionalGeneration,
        ViTConfig,
        ViTModel,
    )

    bert = BertConfig(**SMALL, intermediate_size=64)
    t5 = T5Config(vocab_size=257, d_model=32, d_ff=64, num_layers=1, num_heads=2, d_kv=16)
    vit = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    hashing = ReformerConfig(
        vocab_size=257, hidden_size=32, attn_layers=["local", "lsh"], is_decoder=True, attention_head_size=16,
        num_attention_heads=2, feed_forward_size=64, axial_pos_shape=[8, 8], axial_pos_embds_dim=[16, 16],
    )  # fmt: skip
    for model, said in (
        (ReformerModelWithLMHead(hashing), "chooses by chance what a long text's tokens look at (reformer"),
        (BertLMHeadModel(bert), "reads what stands behind a token too (bert"),
        (T5ForConditionalGeneration(t5), "is an encoder-decoder (t5)"),
        (ViTModel(vit), "is no causal language model (vit)"),
    ):
        folder = save(tmp_path / type(model).__name__, model)
        result = command("run", "--method", "none", "--model", folder, "--benchmark", small)
        assert (result.code, result.err.count("error:")) == (2, 1)
        assert said in result.err.splitlines()[-1]  # before it stands what transformers says of the model made here
        assert "pickle" not in result.err


def test_what_looks_like_a_decoder_and_is_none_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    both_ways = BertLMHeadModel(BertConfig(**SMALL, intermediate_size=64)).eval()
    with pytest.raises(UserError, match="reads what stands behind a token too"):
        require_causal("x", both_ways)
    left_to_right = BertLMHeadModel(BertConfig(**SMALL, intermediate_size=64, is_decoder=True)).eval()
    require_causal("x", left_to_right)
    find_model(str(save(tmp_path / "decoder", left_to_right))).load()


@pytest.mark.usefixtures("no_weights")
def test_texts_that_a_model_cannot_read_are_named(command: Command, small: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    def gpt2(**sizes: int) -> Path:
        config = GPT2Config(**{"vocab_size": 257, "n_embd": 32, "n_layer": 1, "n_head": 2} | sizes)
        return save(tmp_path / "gpt2", GPT2LMHeadModel(config))

    run = ("run", "--method", "none", "--benchmark", small)
    result = command(*run, "--model", gpt2(n_positions=64))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "tokens, and 'gpt2' reads 64 at most; give --max-tokens 64" in result.err
    result = command(*run, "--model", gpt2(n_positions=8), "--max-tokens", 8)
    assert "prompt '" in result.err
    result = command(*run, "--model", gpt2(vocab_size=100))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "has embeddings for 100" in result.err
    made = command(
        "train-attention",
        "--benchmark",
        small,
        "--model",
        gpt2(n_positions=64),
        "--out",
        "phi.safetensors",
        "--set",
        "held_out=2",
    )
    assert (made.code, made.err.count("\n")) == (2, 1)
    assert "reads 64 at most" in made.err


@pytest.mark.usefixtures("no_weights")
def test_dropout_over_fused_experts_is_refused(command: Command, small: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "experts", make_family("mixtral"))
    run = ("run", "--method", "lora", "--model", folder, "--benchmark", small)
    result = command(*run, "--set", "lora.dropout=0.1")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "no dropout; give lora.dropout=0" in result.err


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("family", ["opt", "electra", "rembert", "roformer"])
def test_what_kadapter_cannot_stand_beside_is_refused(
    family: str, command: Command, small: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    narrow = {"opt": {"word_embed_proj_dim": 16}, "rembert": {"output_embedding_size": 16}}
    own = narrow.get(family, {"embedding_size": 16})
    config = AutoConfig.for_model(family, **SMALL, intermediate_size=64, ffn_dim=64, is_decoder=True, **own)
    folder = save(tmp_path / family, AutoModelForCausalLM.from_config(config))
    result = command("run", "--method", "kadapter", "--model", folder, "--benchmark", small)
    assert (result.code, result.err.count("error:")) == (2, 1)
    assert f"kadapter cannot stand beside a model of type '{family}': its layers are not as wide" in result.err


def test_a_model_that_says_something_else_each_time_is_refused() -> None:
    model: Any = make("llama")
    model.lm_head.register_forward_hook(lambda _, __, logits: logits + torch.randn_like(logits))
    with pytest.raises(UserError, match="predicts something else of a text each time"):
        require_causal("x", model)


def test_pickles_are_spoken_of_only_where_there_are_some(command: Command, small: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "broken", make("llama"))
    weights = folder / "model.safetensors"
    run = ("run", "--method", "none", "--model", folder, "--benchmark", small)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    result = command(*run)
    assert (result.code, "cannot load the weights of" in result.err, "--allow-pickle" in result.err) == (2, True, False)
    torch.save({}, folder / "pytorch_model.bin")
    weights.unlink()
    result = command(*run)
    assert (result.code, "--allow-pickle" in result.err) == (2, True)


def adapter(folder: Path, base: Path) -> Any:
    """An adapter alone in a folder, over the model in `base`, and the two together."""
    from peft import LoraConfig, get_peft_model

    both: Any = get_peft_model(make("llama"), LoraConfig(r=2, target_modules="all-linear"))  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in both.named_parameters():
            if "lora_" in name:
                p.copy_(0.2 * torch.randn(p.shape, generator=draw))
    both.peft_config["default"].base_model_name_or_path = str(base)
    both.save_pretrained(folder)
    return both.eval()


def test_an_adapter_alone_is_its_base_with_it(command: Command, small: Path, tmp_path: Path) -> None:
    base = save(tmp_path / "base", make("llama"))
    both = adapter(tmp_path / "adapter", base)
    found = find_model(str(tmp_path / "adapter"))
    assert found.name == "adapter"
    assert find_model(str(base)).revision in found.revision
    ids = torch.randint(3, 250, (1, 9))
    loaded = found.load()
    torch.testing.assert_close(loaded(input_ids=ids).logits, both(input_ids=ids).logits, atol=1e-5, rtol=1e-4)
    assert not any("lora_" in name for name, _ in loaded.named_parameters())
    assert all(p.requires_grad for p in loaded.parameters())
    result = command("run", "--method", "lora", "--model", tmp_path / "adapter", "--benchmark", small, "--limit", 1)
    assert result.code == 0, result.err
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(UserError, match="only with --allow-pickle"):
        find_model(str(tmp_path / "adapter"))
    (tmp_path / "adapter" / "adapter_model.bin").unlink()
    with pytest.raises(UserError, match="holds no weights of its adapter"):
        find_model(str(tmp_path / "adapter"))


def test_a_whole_model_with_an_adapter_beside_it_is_refused(tmp_path: Path) -> None:
    base = save(tmp_path / "base", make("llama"))
    adapter(tmp_path / "adapter", base)
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", base)
    with pytest.raises(UserError, match=r"holds a whole model \(model.safetensors\) and an adapter"):
        find_model(str(base))


def test_an_adapter_that_does_not_say_over_what_is_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", tmp_path)
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(UserError, match="does not say over which model"):
        find_model(str(tmp_path / "adapter"))


def test_what_is_stored_in_four_bits_says_what_it_computes_in() -> None:
    stored = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "torch.float16"}
    config = type("Config", (), {"quantization_config": stored})
    assert stored_quantised(config) == "weights are stored in nf4 and computed with in float16"
    assert stored_quantised(type("Config", (), {})) == ""


def test_a_split_that_was_certified_in_float32_says_so_over_nf4(command: Command, small: Path, tmp_path: Path) -> None:
    from ckl_bench.learning.run import RunRequest, plan_run

    revision = find_model("tiny").revision
    folder = shutil.copytree(small, tmp_path / "certified")
    from conftest import forge

    forge(folder / "manifest.json", lambda m: m["pretest_models"][0].update(revision=revision))
    notes = {
        method: plan_run(RunRequest(method=method, model="tiny", benchmark=str(folder))).warnings
        for method in ("lora", "qlora")
    }
    assert notes["lora"] == []
    assert "pre-tested on tiny in float32 and runs on it in NF4" in notes["qlora"][0]


def test_an_adapter_that_stands_on_itself_is_refused(command: Command, small: Path, tmp_path: Path) -> None:
    adapter(tmp_path / "one", tmp_path / "two")
    adapter(tmp_path / "two", tmp_path / "one")
    adapter(tmp_path / "self", tmp_path / "self")
    for name in ("one", "two", "self"):
        for words in (("run", "--method", "none"), ("plan", "--method", "lora"), ("score",)):
            result = command(*words, "--model", tmp_path / name, "--benchmark", small)
            assert (result.code, result.err.count("error:")) == (2, 1), result.err
            assert "stands on itself" in result.err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"r": 4}, "size mismatch for"),  # which stands in the second line of what is raised
        ({"peft_type": "NEWKIND"}, "KeyError 'NEWKIND'"),
    ],
)
def test_why_an_adapter_does_not_fit_is_said(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    adapter(tmp_path / "adapter", save(tmp_path / "base", make("llama")))
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(UserError, match=rf"cannot be merged into its base model: .*{said}"):
        find_model(str(tmp_path / "adapter")).load()


def test_an_adapter_of_prompts_is_refused(tmp_path: Path) -> None:
    from peft import PromptTuningConfig, get_peft_model

    base = save(tmp_path / "base", make("llama"))
    prompts: Any = get_peft_model(make("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))  # type: ignore[arg-type]
    prompts.peft_config["default"].base_model_name_or_path = str(base)
    prompts.save_pretrained(tmp_path / "prompts")
    with pytest.raises(UserError, match=r"\(PROMPT_TUNING\) adds to prompts and has no weights to merge"):
        find_model(str(tmp_path / "prompts")).load()
