import subprocess
import sys

PACKAGES = [
    *("unianimate", "unianimate_kernels", "unianimate.blocks", "unianimate.models"),
    *("unianimate.models.vae", "unianimate.models.image_encoder"),
    *("unianimate.models.text_encoder", "unianimate.models.checkpoints.convert"),
]
HEAVY = ["diffusers", "transformers", "av", "cv2", "triton", "gradio", "onnxruntime"]


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_packages_loads_nothing_heavy():
    # what one of them loads, the next finds there: a process of its own for each takes seconds
    assert loaded_by(f"import {', '.join(PACKAGES)}").isdisjoint(HEAVY)


def test_the_kernels_need_no_other_package_of_ours():
    assert not any(
        name.split(".")[0] == "unianimate" for name in loaded_by("import unianimate_kernels")
    )


def test_our_kernels_folder_does_not_shadow_the_hub_package_of_that_name():
    code = "import kernels; print(getattr(kernels, '__file__', None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "None" in done.stdout or "ModuleNotFoundError" in done.stderr
