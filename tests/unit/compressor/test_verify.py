import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compressor.candidate import Candidate
from compressor.context import Context
from compressor.delivery import Delivery, deliver, deliver_by_nncf
from compressor.exports.openvino_nncf import Unquantized, version
from compressor.format import writer
from compressor.measure.accuracy import top1
from compressor.measure.probe import Probe, probe
from compressor.measure.state import State, measured
from compressor.method import method
from compressor.models import files
from compressor.models.architectures import build
from compressor.models.source import read_candidate
from compressor.quantization.plan import QuantizationPlan
from compressor.verify import Bench, Expected, check_answers, prove
from contract.artifact import OutputFormat, OutputPrecision, Quantizer
from contract.failures import ArtifactMismatch
from contract.methods.quantize import QuantizeStatic
from contract.spec import Output, OutputOptions
from tests.unit.compressor.executorch import needs_executorch
from tests.unit.compressor.inductor import needs_inductor
from tests.unit.compressor.small_jobs import NETWORK, PREPROCESSING, images, model_input

CPU = torch.device("cpu")
ONNX, SAFETENSORS = Output(format=OutputFormat.ONNX), Output(format=OutputFormat.SAFETENSORS)
NNCF = Output(format=OutputFormat.OPENVINO, options=OutputOptions(quantizer=Quantizer.NNCF))
OPENVINO, TORCH_INDUCTOR = Output(format=OutputFormat.OPENVINO), Output(format=OutputFormat.TORCH_INDUCTOR)
TORCH_EXPORT, EXECUTORCH = Output(format=OutputFormat.TORCH_EXPORT), Output(format=OutputFormat.EXECUTORCH)
EACH_FORMAT = [
    *(pytest.param(output, id=output.format) for output in (ONNX, OPENVINO, TORCH_EXPORT)),
    pytest.param(EXECUTORCH, id=EXECUTORCH.format, marks=needs_executorch),
]


@dataclass(frozen=True)
class Job:
    """A trained network and its INT8 form, and where they are proven."""

    bench: Bench
    int8: State


@pytest.fixture(scope="module")
def job(trained_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    scratch = tmp_path_factory.mktemp("job")
    inputs = model_input(trained_weights)
    evaluation = images(120, seed=1)
    on = probe(evaluation, None, input_shape=(3, 32, 32), seed=0)

    def state(candidate: Candidate, name: str) -> State:
        files.write(candidate, scratch / name)
        return measured(candidate, scratch / name / files.WEIGHTS, on, CPU)

    def candidate() -> Candidate:
        return read_candidate(inputs.source, inputs.weights, seed=0)

    original = state(candidate(), "original")
    quantized = method("quantize_static")(candidate(), QuantizeStatic(), Context(calibration=images(64, seed=2)))
    bench = Bench(original=original, probe=on, scratch=scratch, batch_size=1, threads=1)
    return Job(bench, state(quantized, "int8"))


def stranger() -> Candidate:
    """A network of the same shape with other weights."""
    return Candidate(
        module=build(NETWORK, seed=99).eval(), architecture=NETWORK, preprocessing=PREPROCESSING, num_classes=4
    )


def test_an_honest_float32_file_passes(job: Job, tmp_path: Path) -> None:
    # Given the original as ONNX
    delivery = deliver(job.bench.original.candidate, ONNX, tmp_path)
    # When it is put to the test
    proof = prove(delivery, job.bench.original.logits, job.bench)
    # Then its own answers are those of the network, timed beside the baseline, with nothing in integers
    assert torch.allclose(proof.logits, job.bench.original.logits, atol=1e-3)
    found = proof.verification
    assert found.accuracy == job.bench.original.measurement.accuracy
    assert found.top1_agreement == 1
    assert found.int8_macs_fraction is None
    assert found.opset == 20
    assert found.latency is not None
    assert found.baseline_latency is not None
    assert found.ratio_to_onnx_float32 == found.latency.p50_ms / found.baseline_latency.p50_ms
    assert found.drop is not None
    assert found.drop.value == 0
    assert proof.figures.size_bytes == delivery.main.stat().st_size


def test_an_honest_int8_file_passes(job: Job, tmp_path: Path) -> None:
    # Given the quantized network as ONNX
    delivery = deliver(job.int8.candidate, ONNX, tmp_path)
    # When it is put to the test
    proof = prove(delivery, job.int8.logits, job.bench)
    # Then the runtime does nearly all of its products in integers, and they are those that were simulated
    assert proof.verification.int8_macs_fraction is not None
    assert proof.verification.int8_macs_fraction > 0.95
    assert proof.verification.top1_agreement >= 0.98
    assert proof.figures.size_bytes < 0.5 * proof.baseline.size_bytes


@pytest.mark.parametrize(
    ("output", "runtime", "files"),
    [
        pytest.param(OPENVINO, "openvino", {"model.xml", "model.bin"}, id="openvino"),
        pytest.param(EXECUTORCH, "executorch", {"model.pte"}, id="executorch", marks=needs_executorch),
        pytest.param(TORCH_INDUCTOR, "torch", {"model.inductor.pt2"}, id="torch_inductor", marks=needs_inductor),
    ],
)
def test_honest_int8_files_of_other_formats_pass(
    job: Job, tmp_path: Path, output: Output, runtime: str, files: set[str]
) -> None:
    # Given the quantized network in another format
    delivery = deliver(job.int8.candidate, output, tmp_path)
    # When it is put to the test
    proof = prove(delivery, job.int8.logits, job.bench)
    # Then it runs in integers, beside the original in this format, and is compared with float32 ONNX too
    found = proof.verification
    assert found.latency is not None
    assert found.baseline_latency is not None
    assert found.runtime == found.latency.runtime == found.baseline_latency.runtime
    assert found.runtime.startswith(f"{runtime} ")
    assert found.int8_macs_fraction is not None
    assert found.int8_macs_fraction > 0.95
    assert found.top1_agreement >= 0.98
    assert found.ratio_to_onnx_float32 is not None
    assert found.realized_by is None
    # And all its files are counted
    assert proof.figures.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == files


def test_an_honest_program_passes(job: Job, tmp_path: Path) -> None:
    # Given the original as a program of torch's
    delivery = deliver(job.bench.original.candidate, TORCH_EXPORT, tmp_path)
    # When it is put to the test, then it is compared with its own kind and with float32 ONNX
    proof = prove(delivery, job.bench.original.logits, job.bench)
    found = proof.verification
    assert found.runtime.startswith("torch ")
    assert found.ratio_to_onnx_float32 is not None
    assert found.int8_macs_fraction is None
    assert found.top1_agreement == 1
    assert proof.figures.size_bytes == (tmp_path / "model.pt2").stat().st_size


def test_an_honest_safetensors_folder_passes(job: Job, tmp_path: Path) -> None:
    # Given the quantized network as safetensors
    delivery = deliver(job.int8.candidate, SAFETENSORS, tmp_path)
    # When it is put to the test, then it is compared with its own kind and with float32 ONNX
    found = prove(delivery, job.int8.logits, job.bench).verification
    assert found.runtime.startswith("torch ")
    assert found.ratio_to_onnx_float32 is not None
    assert found.top1_agreement >= 0.98


def by_nncf(folder: Path, network: Candidate, *, said: Candidate) -> Delivery:
    """What NNCF makes of a network, said to be another's."""
    return deliver_by_nncf(said, NNCF, folder, Unquantized(network, images(64, seed=2), "x86-vnni"))


def test_an_honest_file_of_another_quantizer_passes(job: Job, tmp_path: Path) -> None:
    # Given the original with integers that NNCF has chosen
    delivery = by_nncf(tmp_path, job.bench.original.candidate, said=job.int8.candidate)
    # When it is put to the test
    found = prove(delivery, job.int8.logits, job.bench).verification
    # Then it runs in integers, is as right, and says whose they are
    assert found.realized_by == version()
    assert found.int8_macs_fraction is not None
    assert found.int8_macs_fraction > 0.95
    assert found.accuracy is not None
    assert {path.name for path in tmp_path.iterdir()} == {"model.nncf.xml", "model.nncf.bin"}


def test_a_lying_file_of_another_quantizer_is_caught(job: Job, tmp_path: Path) -> None:
    # Given integers of another network, and a file said to have some that has none
    strange = by_nncf(tmp_path, stranger(), said=job.int8.candidate)
    plain = replace(passed_off(floats(job), OPENVINO, tmp_path, said=job.int8.candidate), realized_by=version())
    # When they are put to the test, then they do not pass
    with pytest.raises(ArtifactMismatch, match=r"model\.nncf\.xml, whose integers nncf .* is right less often"):
        prove(strange, job.int8.logits, job.bench)
    with pytest.raises(ArtifactMismatch, match="computes none of its MACs"):
        prove(plain, job.int8.logits, job.bench)


def passed_off(truth: Candidate, output: Output, folder: Path, *, said: Candidate) -> Delivery:
    """Files of one network, said to be another's."""
    return Delivery(output, said, writer(output.format)(truth, folder, "model"))


def strange_weights(job: Job) -> Candidate:
    return stranger()


def strange_integers(job: Job) -> Candidate:
    return method("quantize_static")(stranger(), QuantizeStatic(), Context(calibration=images(64, seed=2)))


def floats(job: Job) -> Candidate:
    return replace(job.int8.candidate, plan=QuantizationPlan())


@pytest.mark.parametrize("output", [ONNX, OPENVINO], ids=["onnx", "openvino"])
@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (strange_weights, "computes none of its MACs"),
        (strange_integers, "of the images where the model puts them"),
        (floats, "computes none of its MACs"),
    ],
)
def test_a_lying_int8_file_is_caught(
    job: Job, tmp_path: Path, output: Output, truth: Callable[[Job], Candidate], said: str
) -> None:
    # Given a file said to be INT8, in which something else lies
    delivery = passed_off(truth(job), output, tmp_path, said=job.int8.candidate)
    # When it is put to the test, then it does not pass
    with pytest.raises(ArtifactMismatch, match=said):
        prove(delivery, job.int8.logits, job.bench)


@pytest.mark.parametrize("output", EACH_FORMAT)
def test_swapped_float32_weights_are_caught(job: Job, tmp_path: Path, output: Output) -> None:
    # Given a float32 file that holds another network's weights
    delivery = passed_off(stranger(), output, tmp_path, said=job.bench.original.candidate)
    # When it is put to the test, then it does not pass
    with pytest.raises(ArtifactMismatch, match="answers differently"):
        prove(delivery, job.bench.original.logits, job.bench)


@pytest.mark.parametrize("cut", [True, False], ids=["cut short", "of another network"])
def test_other_weights_beside_a_true_graph_are_caught(job: Job, tmp_path: Path, cut: bool) -> None:
    # Given a graph, and beside it weights that are not its own
    delivery = deliver(job.bench.original.candidate, OPENVINO, tmp_path)
    (tmp_path / "other").mkdir()
    other = deliver(stranger(), OPENVINO, tmp_path / "other").files["model.bin"].read_bytes()
    delivery.files["model.bin"].write_bytes(b"" if cut else other)
    # When they are put to the test, then they do not pass, and the failure tells nothing of the machine
    with pytest.raises(ArtifactMismatch, match=r"model\.xml") as caught:
        prove(delivery, job.bench.original.logits, job.bench)
    assert not re.search(r"\w/\w", caught.value.detail)


def test_a_swapped_safetensors_folder_is_caught(job: Job, tmp_path: Path) -> None:
    # Given a folder with another network's weights and a description that is true of them
    delivery = passed_off(stranger(), SAFETENSORS, tmp_path, said=job.bench.original.candidate)
    # When it is put to the test, then it does not pass
    with pytest.raises(ArtifactMismatch, match="answers differently"):
        prove(delivery, job.bench.original.logits, job.bench)


def test_a_safetensors_folder_without_its_integers_is_caught(job: Job, tmp_path: Path) -> None:
    # Given a folder said to hold integers, that holds the same numbers as floats
    delivery = passed_off(floats(job), SAFETENSORS, tmp_path, said=job.int8.candidate)
    # When it is put to the test, then it does not pass
    with pytest.raises(ArtifactMismatch, match="does not hold the numbers"):
        prove(delivery, job.int8.logits, job.bench)


def test_weights_that_are_not_those_of_the_description_are_caught(job: Job, tmp_path: Path) -> None:
    # Given a description beside weights of another network of the same shape
    delivery = deliver(job.bench.original.candidate, SAFETENSORS, tmp_path)
    files.write(stranger(), tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / files.WEIGHTS, delivery.main)
    # When it is put to the test, then it cannot even be loaded
    with pytest.raises(ArtifactMismatch, match="answers otherwise"):
        prove(delivery, job.bench.original.logits, job.bench)


REFERENCE = torch.tensor([[4.0, 0.0], [0.0, 4.0]] * 50)


def moved(by: float, *, images: int) -> Tensor:
    """The reference with the first answers pushed towards the other class."""
    found = REFERENCE.clone()
    found[:images] += by * (found[:images].flip(1) - found[:images]).sign()
    return found


def expected(unrounded: Tensor = REFERENCE, *, noise: bool = False) -> Expected:
    return Expected(answers=REFERENCE, unrounded=lambda: unrounded, noise=noise)


@pytest.mark.parametrize(
    ("found", "int8", "unrounded_on_noise", "passes"),
    [
        (moved(0.003, images=100), False, None, True),
        (moved(0.005, images=1), False, None, False),
        (moved(1.9, images=100), True, None, True),
        (moved(2.1, images=2), True, None, True),
        (moved(2.1, images=3), True, None, False),
        (moved(0.39, images=100), True, REFERENCE, True),
        (moved(0.41, images=1), True, REFERENCE, False),
        (moved(0.79, images=100), True, moved(0.8, images=1), True),
        (moved(0.81, images=1), True, moved(0.8, images=100), False),
        (torch.full((100, 2), float("nan")), False, None, False),
        (torch.full((100, 2), float("nan")), True, None, False),
        (torch.full((100, 2), float("nan")), True, REFERENCE, False),
        (REFERENCE[:, :1], True, None, False),
    ],
)
def test_how_close_is_close_enough(
    job: Job, tmp_path: Path, found: Tensor, int8: bool, unrounded_on_noise: Tensor | None, passes: bool
) -> None:
    # Given a delivery, and answers at one side of a bound
    candidate = job.int8.candidate if int8 else job.bench.original.candidate
    delivery = Delivery(ONNX, candidate, {"model.onnx": tmp_path / "model.onnx"})
    wanted = expected() if unrounded_on_noise is None else expected(unrounded_on_noise, noise=True)
    # When they are compared, then the bound holds
    if passes:
        check_answers(delivery, wanted, found)
    else:
        with pytest.raises(ArtifactMismatch, match=r"model\.onnx"):
            check_answers(delivery, wanted, found)


@pytest.mark.parametrize(
    ("output", "operator", "found", "passes"),
    [
        (OPENVINO, "HSwish", moved(-0.5, images=100), True),
        (OPENVINO, "Swish", moved(4.4, images=100), True),
        (OPENVINO, "Swish", moved(4.5, images=100), False),
        (OPENVINO, "Swish", torch.full((100, 2), float("nan")), False),
        (OPENVINO, "Sigmoid", moved(4.4, images=100), False),
        (ONNX, "Swish", moved(4.4, images=100), False),
    ],
)
def test_a_file_that_rounds_less_often_may_be_as_wrong_as_the_candidate_on_another_side(
    job: Job, tmp_path: Path, output: Output, operator: str, found: Tensor, passes: bool
) -> None:
    # Given a candidate whose roundings have moved its answers by two, and a file that may round elsewhere
    (tmp_path / "model.xml").write_text(f'<layer id="7" name="a" type="{operator}" version="opset4">')
    delivery = Delivery(output, job.int8.candidate, {"model": tmp_path / "model.xml"})
    unrounded = moved(2.0, images=100)
    # When they are compared, then the file may be further from the answers without roundings by half the squared error
    if passes:
        check_answers(delivery, expected(unrounded), found)
    else:
        with pytest.raises(ArtifactMismatch):
            check_answers(delivery, expected(unrounded), found)


RIGHT = top1(REFERENCE)


@pytest.mark.parametrize(
    ("found", "labels", "passes"),
    [
        (moved(4.1, images=3), RIGHT, True),
        (moved(4.1, images=10), RIGHT, False),
        (moved(4.1, images=100), 1 - RIGHT, True),
        (torch.full((100, 2), float("nan")), 1 - RIGHT, False),
    ],
    ids=["less right by chance", "less right", "more right", "no number"],
)
def test_what_another_quantizer_makes_is_as_right_as_the_candidate_but_for_chance(
    job: Job, tmp_path: Path, found: Tensor, labels: Tensor, passes: bool
) -> None:
    # Given a file whose integers are not the plan's, and answers of its own
    delivery = Delivery(NNCF, job.int8.candidate, {"model": tmp_path / "model.nncf.xml"}, realized_by="nncf 1")
    # When they are compared, then they may differ, but not be wrong more often
    if passes:
        check_answers(delivery, replace(expected(), labels=labels), found)
    else:
        with pytest.raises(ArtifactMismatch, match="whose integers nncf 1 has chosen"):
            check_answers(delivery, replace(expected(), labels=labels), found)


@pytest.mark.parametrize(("by", "passes"), [(0.03, True), (0.05, False), (float("nan"), False)])
def test_float16_has_ten_times_the_room_of_float32(job: Job, tmp_path: Path, by: float, passes: bool) -> None:
    # Given a delivery in float16, and answers at one side of a hundredth of the largest logit
    output = Output(format=OutputFormat.ONNX, precision=OutputPrecision.FLOAT16)
    delivery = Delivery(output, job.bench.original.candidate, {"model.onnx": tmp_path / "model.onnx"})
    # When they are compared, then the bound holds
    if passes:
        check_answers(delivery, expected(), REFERENCE + by)
    else:
        with pytest.raises(ArtifactMismatch, match=r"0\.01 of it is allowed"):
            check_answers(delivery, expected(), REFERENCE + by)


def test_a_tie_is_no_mismatch(job: Job, tmp_path: Path) -> None:
    # Given a network that holds two classes for equally good, and a file that rounds to the other
    delivery = Delivery(ONNX, job.int8.candidate, {"model.onnx": tmp_path / "model.onnx"})
    reference = torch.tensor([[4.0, 3.95]] * 10)
    wanted = Expected(answers=reference, unrounded=lambda: reference, noise=False)
    # When they are compared, then none of these answers is held against the file
    check_answers(delivery, wanted, reference.flip(1))


def test_without_images_noise_serves(trained_weights: Path) -> None:
    # Given a job without any data
    without = probe(None, None, input_shape=(3, 8, 8), seed=5)
    # Then there are inputs all the same, the same for the same seed, and no labels to be right about
    first, again = next(without.batches()), next(probe(None, None, input_shape=(3, 8, 8), seed=5).batches())
    assert torch.equal(first, again)
    assert (len(without), without.labels) == (len(first), None)


def test_a_batch_to_be_timed_has_its_size(job: Job) -> None:
    # Given fewer images than a batch shall have
    few = Probe(images=images(3, seed=0))
    # Then they are repeated
    assert few.batch(8).shape == (8, 3, 32, 32)
    assert torch.equal(few.batch(8)[:3], few.batch(8)[3:6])
