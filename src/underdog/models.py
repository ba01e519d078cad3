"""The only door to transformers and peft: loading, saving, converting, adapting, and the parts that others compute with."""

import contextlib
import copy
import gc
import io
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from underdog import runs, weights
from underdog.answering import Footprint
from underdog.errors import DiskFull, ModelUnavailable
from underdog.nanofft.modeling import register
from underdog.progress import Progress, Silent
from underdog.runs import fingerprint, sha256_file
from underdog.settings import Settings


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model with its tokenizer."""

    name: str
    model: Any
    """A transformers `PreTrainedModel`, or one with peft adapters put in."""
    tokenizer: Any

    @property
    def backbone(self) -> nn.Module:
        """Everything below the vocabulary head: tokens to hidden states."""
        return self._transformer.base_model

    @property
    def _transformer(self) -> PreTrainedModel:
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    @property
    def config(self) -> Any:
        return self._transformer.config

    @property
    def head_weight(self) -> Tensor:
        """[V, H] weight of the vocabulary head."""
        return cast(nn.Module, self._transformer.get_output_embeddings()).weight  # pyright: ignore[reportReturnType]

    @property
    def input_width(self) -> int:
        """W, the width of the token table; where it is not that of the hidden states, the model has a projection after it."""
        return int(cast(nn.Embedding, self._transformer.get_input_embeddings()).embedding_dim)

    @property
    def device(self) -> torch.device:
        return self.head_weight.device

    @property
    def end(self) -> int:
        """Token that ends a text."""
        return self.tokenizer.eos_token_id

    @property
    def ends(self) -> frozenset[int]:
        """Every token at which the model ends a text: the tokenizer's, and those of its generation config (ends of turn)."""
        named = getattr(getattr(self._transformer, "generation_config", None), "eos_token_id", None)
        more = [named] if isinstance(named, int) else list(named or ())
        return frozenset(token for token in (self.end, *more) if token is not None)

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end

    @property
    def max_length(self) -> int:
        """Most tokens the positions allow."""
        return int(getattr(self.config, "max_position_embeddings", 1 << 30))

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        return self.backbone.layers  # type: ignore[return-value]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def start_tokens(self) -> list[int]:
        """What the tokenizer puts before a text of its own accord (a beginning-of-text token, or nothing)."""
        return self.tokenizer("", add_special_tokens=True)["input_ids"][:1] if self.tokenizer.bos_token_id is not None else []

    def ask_tokens(self, prompt: str) -> list[int]:
        """Tokens after which the model replies to `prompt`: in its chat template where it has one, else as plain text."""
        if self.tokenizer.chat_template is None:
            return [*self.start_tokens(), *self.encode([prompt])[0]]
        turns = [{"role": "user", "content": prompt}]
        return self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor,
        visible: Tensor | None,
        cache: Any = None,
        skipped: Tensor | None = None,
        embeddings: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, T, H] of tokens [B, T]; `visible` [B, 1, T, past + T] says what each position sees.

        `skipped` [B] is how many places at the beginning of each row in the cache are padding: positions start after them.
        Where padding stands elsewhere, it is [B, past], how many places before each one are padding.
        `embeddings` [B, T, W] stand in for the tokens' own.
        """
        if visible is None and cache is not None and tokens.shape[1] == 1 and self._shares_keys and tokens.device.type == "cpu":
            # Without a mask, torch spreads keys to the heads that share them: in bf16 a step takes 1.2 to 1.5 times as long.
            visible = torch.ones(len(tokens), 1, 1, cache.get_seq_length() + 1, dtype=torch.bool)
        mask = None if visible is None else self._windowed(visible, positions, skipped)
        read: dict[str, Tensor] = {"input_ids": tokens} if embeddings is None else {"inputs_embeds": embeddings}
        return self.backbone(
            **read, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state

    @property
    def _shares_keys(self) -> bool:
        """Whether several heads that ask share the keys and values of one."""
        heads = getattr(self.config, "num_attention_heads", None)
        return heads != (getattr(self.config, "num_key_value_heads", None) or heads)

    def embeddings(self, tokens: Tensor) -> Tensor:
        """[B, T, W] what the model makes of tokens [B, T] before positions and layers."""
        return self._transformer.get_input_embeddings()(tokens)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., V] of hidden states [..., H]."""
        return cast(nn.Module, self._transformer.get_output_embeddings())(hidden)

    def _windowed(self, visible: Tensor, positions: Tensor, skipped: Tensor | None) -> Tensor | dict[str, Tensor]:
        """The mask as each kind of layer needs it: one with an attention window sees no further back than that."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        past = visible.shape[-1] - visible.shape[-2]
        if not window or visible.shape[-1] <= window or (kinds and "sliding_attention" not in kinds):
            return visible
        cached = torch.arange(past, device=positions.device).expand(len(positions), past)
        cached = cached if skipped is None else cached - (skipped if skipped.ndim == 2 else skipped[:, None])
        distance = positions[:, None, :, None] - torch.cat([cached, positions], 1)[:, None, None, :]
        near = visible & (distance < window)
        return {"full_attention": visible, "sliding_attention": near} if kinds else near

    def parameter_count(self) -> int:
        """Parameters, shared ones once."""
        return sum(parameter.numel() for parameter in {id(p): p for p in self.model.parameters()}.values())

    def trainable_count(self) -> int:
        """Parameters that learn."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def footprint(self) -> Footprint:
        """Size in parameters, and in bytes as loaded."""
        unique = {id(p): p for p in self.model.parameters()}.values()
        count = self.parameter_count()
        return Footprint(count, count, sum(p.numel() * p.element_size() for p in unique))


def load(
    name: str,
    settings: Settings,
    progress: Progress | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
) -> LanguageModel:
    """Load a model by catalogue name, folder or hub id; raises UnknownName or ModelUnavailable."""
    location = weights.resolve(name, settings)
    _quiet()
    register()
    if location.entry is not None:
        folder = _converted(location.entry, settings, progress or Silent())
        source, offline = str(folder), True
    else:
        source, offline = str(location.folder or location.hub_id), settings.offline or location.folder is not None
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            attn_implementation="sdpa",
            local_files_only=offline,
            trust_remote_code=False,
            use_safetensors=True,
            adapter_kwargs={"local_files_only": offline},  # the search for an adapter has a network habit of its own
        )
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=offline, trust_remote_code=False)
    except (OSError, ValueError, SafetensorError) as error:
        mode = "Offline mode is on (UNDERDOG_OFFLINE or HF_HUB_OFFLINE). " if settings.offline and location.hub_id else ""
        raise ModelUnavailable(
            f"model {name!r} cannot be loaded from {source}: {str(error).splitlines()[0].rstrip('. ')}. {mode}"
            "Allowed: a catalogue name, a folder with config.json and safetensors weights, "
            "or a hub id that can be reached or is cached."
        ) from error
    loaded = LanguageModel(name, model.to(device or default_device()).eval(), tokenizer)
    _check_head(loaded)
    return loaded


def default_device() -> str:
    """'cuda' where there is one, else 'cpu'."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _quiet() -> None:
    """Transformers' own progress bars and warnings would tear ours."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _check_head(lm: LanguageModel) -> None:
    """Make sure that logits are hidden states times the head's weight, which is how we compute them."""
    tokens = torch.arange(4, device=lm.device)[None] % len(lm.head_weight)
    positions = torch.arange(4, device=lm.device)[None]
    with torch.no_grad():
        plain = lm.model(input_ids=tokens).logits.float()
        ours = (lm.hidden(tokens, positions, None) @ lm.head_weight.T.to(lm.model.dtype)).float()
    if not torch.allclose(plain, ours, atol=1e-2 + 1e-3 * float(plain.abs().max())):
        raise ModelUnavailable(
            f"model {lm.name!r} ({lm.config.model_type}) changes its logits after the vocabulary head, which is not supported. "
            "Choose a model with a plain linear head."
        )


def _converted(entry: weights.CatalogueEntry, settings: Settings, progress: Progress) -> Path:
    """Return the folder of safetensors made from the entry's GGUF, making it the first time."""
    folder = weights.cached_folder(entry, settings)
    if (folder / "config.json").exists():
        return folder
    gguf = weights.fetch_gguf(entry, settings, progress)
    with weights.one_at_a_time(folder.parent, progress):
        if not (folder / "config.json").exists():
            _convert(entry, gguf, folder, progress)
    return folder


def _convert(entry: weights.CatalogueEntry, gguf: Path, folder: Path, progress: Progress) -> None:
    progress.say(f"Converting {entry.name} to safetensors, once (a minute or two)")
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    # The weights are plain float32 now; the marks of quantisation would keep transformers from saving them.
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    setattr(model, "is_quantized", False)  # noqa: B010 - transformers declares no such attribute
    if hasattr(model.config, "quantization_config"):
        delattr(model.config, "quantization_config")
    save(LanguageModel(entry.name, model, tokenizer), folder)


def save(lm: LanguageModel, folder: Path) -> None:
    """Write an ordinary model folder, whole or not at all; raises DiskFull when there is no room."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(folder.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        lm._transformer.save_pretrained(scratch, safe_serialization=True)
        lm.tokenizer.save_pretrained(scratch)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    except Exception as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if runs.is_disk_full(error):
            raise DiskFull(
                f"{folder}: no room left while saving {lm.name!r} (about {lm.footprint().weights_bytes / 1e6:.0f} MB). "
                "Nothing finished is lost. Free some space, or move the run folder, and start again."
            ) from error
        raise


def with_lora(lm: LanguageModel, rank: int) -> LanguageModel:
    """Put a fresh LoRA adapter on every linear layer below the head and freeze the rest."""
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():  # peft asks transformers for what it still has, and is told that it will go
        warnings.simplefilter("ignore", FutureWarning)
        return replace(lm, model=get_peft_model(lm.model, config))


def write_lora_config(folder: Path, base: str, rank: int, alpha: float, layers: Sequence[str]) -> None:
    """Write the `adapter_config.json` of a LoRA adapter on these layers of `base`, by which peft loads it."""
    LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=0.0,
        target_modules=sorted(layers),
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        inference_mode=True,
    ).save_pretrained(str(folder))


def merged(lm: LanguageModel) -> LanguageModel:
    """Fold LoRA adapters into the weights; a model without adapters is returned as it is."""
    return replace(lm, model=lm.model.merge_and_unload()) if hasattr(lm.model, "peft_config") else lm


def copied(lm: LanguageModel) -> LanguageModel:
    """A copy that can be trained without touching the original."""
    return replace(lm, model=copy.deepcopy(lm.model))


@contextlib.contextmanager
def hollow() -> Iterator[None]:
    """In it, models are made without weights, in a moment: load a state into them with assign=True."""
    with no_init_weights(), init_empty_weights(include_buffers=False):
        yield


def from_config(config: Mapping[str, Any]) -> Any:
    """A model with fresh weights of a saved config. Raises ModelUnavailable where there is no such architecture."""
    _quiet()
    register()
    try:
        ready = AutoConfig.for_model(**config)
        return AutoModelForCausalLM.from_config(ready, dtype=torch.float32, attn_implementation="sdpa").eval()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelUnavailable(f"no model can be made of this config: {str(error).splitlines()[0]}") from error


def parameters_of(name: str, settings: Settings) -> int:
    """Count a model's parameters without loading its weights, shared ones once."""
    location = weights.resolve(name, settings)
    if location.entry is not None:
        return location.entry.parameters
    source = str(location.folder or location.hub_id)
    local = settings.offline or location.folder is not None
    register()
    config = AutoConfig.from_pretrained(source, local_files_only=local, trust_remote_code=False)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config).num_parameters()


def seed(number: int) -> None:
    """Seed what draws the first values of adapters."""
    set_seed(number)


def identity(name: str, settings: Settings) -> str:
    """What tells one model's weights from another's: the catalogue's hash, a folder's content, or a hub id."""
    location = weights.resolve(name, settings)
    if location.entry is not None:
        return location.entry.sha256
    if location.folder is not None:
        files = sorted(path for path in location.folder.iterdir() if path.suffix in {".json", ".safetensors", ".jinja"})
        return fingerprint({path.name: sha256_file(path) for path in files})
    return str(location.hub_id)


def rebuilt(
    lm: LanguageModel, name: str, change: Callable[[Any], None], state: dict[str, Tensor], tokenizer: Any | None = None
) -> LanguageModel:
    """A new model of the same architecture: the config changed in place by `change`, its weights taken from `state`."""
    config = type(lm.config).from_dict(json.loads(json.dumps(lm.config.to_dict())))
    change(config)
    model = AutoModelForCausalLM.from_config(config, dtype=next(iter(state.values())).dtype, attn_implementation="sdpa")
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    if unexpected or set(missing) - tied - {"lm_head.weight"}:
        raise ValueError(
            f"weights do not fit the changed config: missing {sorted(missing)[:3]}, unexpected {sorted(unexpected)[:3]}"
        )
    model.tie_weights()
    ready = LanguageModel(name, model.to(lm.device).eval(), tokenizer or lm.tokenizer)
    if tokenizer is not None and model.generation_config is not None:
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.bos_token_id = tokenizer.bos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return ready


def tokenizer_from(folder: Path) -> Any:
    """Load a tokenizer folder."""
    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def forget() -> None:
    """Give memory of dropped models back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
