import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import BadSamplesError, InconsistentScanError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.readout import centred_ifft


def coloured(coils=5, samples=20_000, seed=0):
    """Noise of correlated coils with unequal gains, and its true covariance."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((coils, coils)) + 1j * rng.standard_normal((coils, coils))
    mix *= np.geomspace(1e-6, 1e-4, coils)[:, None]
    white = rng.standard_normal((coils, samples)) + 1j * rng.standard_normal((coils, samples))
    return (mix @ (white / np.sqrt(2))), mix @ mix.conj().T


def acquisition(noise, dwell=5.0):
    made = ismrmrd.Acquisition.from_array(noise.astype(np.complex64), sample_time_us=dwell)
    made.set_flag(19)
    return made


def scanned(noise, dwell=5.0, bandwidth=1.0, pieces=10):
    scan = NoiseScan(bandwidth)
    for part in np.array_split(noise, pieces, axis=1):
        scan.add(acquisition(part, dwell))
    return scan


def test_covariance_of_known_noise():
    noise, truth = coloured()
    scan = scanned(noise)
    assert scan.samples == 20_000
    scale = np.sqrt(np.outer(np.diag(truth), np.diag(truth))).real
    assert np.abs((scan.covariance - truth) / scale).max() < 0.03


def test_whitened_noise_has_unit_covariance():
    noise, _ = coloured()
    W = scanned(noise).whitening(5.0)
    assert W.dtype == np.complex64
    fresh, _ = coloured(seed=0)
    white = W @ fresh
    covariance = white @ white.conj().T / white.shape[1]
    np.testing.assert_allclose(covariance, np.eye(5), atol=0.01)
    assert np.var(white.real) == pytest.approx(0.5, abs=0.01)


def test_whitening_is_lower_triangular():
    W = scanned(coloured()[0]).whitening(5.0)
    assert np.allclose(np.triu(W, 1), 0, atol=1e-6 * np.abs(W).max())


@pytest.mark.parametrize("dwell", [1.25, 5.0, 20.0])
@pytest.mark.parametrize("bandwidth", [1.0, 0.793])
def test_dwell_time_and_bandwidth(dwell, bandwidth):
    # Receiver noise of spectral density 1: variance 1 / dwell in imaging data; the noise scan
    # sees only `bandwidth` of it.
    rng = np.random.default_rng(3)
    white = (rng.standard_normal((2, 40_000)) + 1j * rng.standard_normal((2, 40_000))) / 2**0.5
    scan = scanned(white * np.sqrt(bandwidth / 20.0), dwell=20.0, bandwidth=bandwidth)
    data = white / np.sqrt(dwell)
    whitened = scan.whitening(dwell) @ data
    assert np.mean(np.abs(whitened) ** 2) == pytest.approx(1, rel=0.01)


def test_unknown_dwell_times_scale_nothing():
    scan = scanned(coloured()[0], dwell=0.0, bandwidth=0.5)
    assert scan.scale(5.0) == 1.0
    assert scanned(coloured()[0], dwell=5.0).scale(0.0) == 1.0


def test_dead_coil_is_named_and_drops_out():
    noise, _ = coloured()
    noise[2] = 0
    scan = scanned(noise)
    assert scan.dead_coils == [2]
    W = scan.whitening(5.0)
    assert not W[2].any()
    assert not W[:, 2].any()
    white = W @ noise
    covariance = white @ white.conj().T / white.shape[1]
    np.testing.assert_allclose(np.diag(covariance), [1, 1, 0, 1, 1], atol=0.01)


def test_singular_covariance_gives_a_finite_matrix():
    noise, _ = coloured(samples=3)  # fewer samples than coils
    assert np.isfinite(scanned(noise, pieces=1).whitening(5.0)).all()
    noise, _ = coloured()
    noise[1] = noise[0]
    assert np.isfinite(scanned(noise).whitening(5.0)).all()


def test_what_is_wrong_with_a_noise_scan_is_said():
    noise, truth = coloured()
    assert NoiseScan().flaw == ""
    assert scanned(noise[:, :10]).flaw == ""
    few = scanned(noise[:, :9])
    assert few.flaw == "the noise scan has 9 samples of 5 coils, expected at least 10"
    assert scanned(0 * noise).flaw == "the noise scan holds only zeros"
    given = NoiseScan.of_covariance(truth, samples=0, dwell_time_us=5.0)  # somebody else has judged
    assert given.flaw == ""
    ours = NoiseScan()
    ours.adopt(given, "another scan")
    assert ours.flaw == ""
    ours.add(acquisition(noise[:, :1]))
    assert "has 1 samples" in ours.flaw


def test_disagreements_are_refused():
    scan = scanned(coloured()[0])
    with pytest.raises(InconsistentScanError, match="noise scan has 5 coils, the imaging data 8"):
        scan.whitening(5.0, coils=8)
    with pytest.raises(BadSamplesError, match="NaN"):
        scan.add(acquisition(np.full((5, 8), np.nan)))
    with pytest.raises(InconsistentScanError, match="no noise was measured"):
        NoiseScan().whitening(5.0)
    with pytest.raises(InconsistentScanError, match="only zeros"):
        scanned(np.zeros((3, 100))).whitening(5.0)


def test_noise_of_another_dwell_time_is_scaled():
    noise, _ = coloured()
    scan = scanned(noise[:, :5_000], dwell=5.0)
    scan.add(acquisition(noise[:, 5_000:] * np.sqrt(5 / 20), dwell=20.0))
    np.testing.assert_allclose(scan.covariance, scanned(noise).covariance, rtol=1e-3)
    assert scan.scale(5.0) == 1.0


@pytest.mark.parametrize("order", [1, -1])
def test_noise_of_the_most_coils_counts(order, caplog):
    noise, _ = coloured()
    scan = NoiseScan()
    for part in (noise, noise[:2])[::order]:
        scan.add(acquisition(part))
    np.testing.assert_allclose(scan.covariance, scanned(noise, pieces=1).covariance)
    assert (scan.coils, scan.samples) == (5, noise.shape[1])
    assert "those with the most count" in caplog.text


def test_noise_of_other_coils_is_unfit():
    scan = scanned(coloured()[0])
    assert scan.unfit(5) == ""
    assert scan.unfit(8) == "the noise scan has 5 coils, the imaging data 8"
    assert NoiseScan().unfit(8) == ""


def test_empty():
    assert NoiseScan().is_empty
    assert NoiseScan().coils == 0
    assert not scanned(coloured()[0]).is_empty


def test_scanner_noise_becomes_white(shared_data):
    path = shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    with ScanFile(path) as file:
        scan = NoiseScan(file.header.noise_bandwidth)
        acquisitions = list(file)
    noise = [a for a in acquisitions if flags.is_noise(a.flags)]
    for measured in noise:
        scan.add(measured)
    assert scan.coils == 14
    assert scan.dead_coils == []
    # Readouts far from the k-space centre, in image space: columns beside the bottles hold noise
    # alone, and the receiver's filter is flat there. The scale comes out right only with the
    # dwell times (20 and 2.4 us) and the bandwidth (0.793) in their places.
    images = [a for a in acquisitions if flags.is_image(a.flags)]
    W = scan.whitening(images[0].sample_time_us, coils=14)
    lines = np.stack([centred_ifft(W @ a.data) for a in (*images[:3], *images[-3:])], axis=1)
    noise_only = np.concatenate([lines[..., 64:104], lines[..., 288:312]], axis=-1).reshape(14, -1)
    covariance = noise_only @ noise_only.conj().T / noise_only.shape[1]
    assert np.mean(np.diag(covariance).real) == pytest.approx(1, rel=0.1)
    off = covariance - np.diag(np.diag(covariance))
    assert np.sqrt(np.mean(np.abs(off) ** 2)) < 0.1


@pytest.mark.parametrize("coils", [0, 1025, 65535])
def test_no_coils_and_far_too_many_are_refused(coils):
    with pytest.raises(InconsistentScanError, match=f"has {coils:,} coils, expected 1 to 1,024"):
        NoiseScan().add(acquisition(np.ones((coils, 1))))


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_dwell_times_that_are_no_numbers_count_as_unknown(unknown):
    noise = coloured()[0]
    known = scanned(noise, dwell=0.0).whitening(5.0)
    np.testing.assert_array_equal(scanned(noise).whitening(unknown), known)
    np.testing.assert_array_equal(scanned(noise, dwell=unknown).whitening(5.0), known)
