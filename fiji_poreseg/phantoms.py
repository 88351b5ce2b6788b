"""A synthetic FIB-SEM stack of a highly porous membrane, with its exact truth.

The structure is a level set of Gaussian random fields. The picture follows what beam and detector
see: the freshly cut face and, above all, the back walls of open pores (shine-through). Each step,
with its source, is explained in ``docs/phantom.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import fft, ndimage

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE, SOLID, Spacing, make_labels, make_stack

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

FEATURE_SIZE_NM, ATTENUATION_NM, NOISE = 300.0, 300.0, 0.09  # defaults
BLACK_LEVEL, FACE_LEVEL = 24.0, 150.0  # grey of no signal, and of a cut face without drift
BANDWIDTH = 0.3  # relative width of the random fields' spectrum around its mean wavelength
STRUT_WEIGHT = 0.35  # of the second field: 0 gives closed sheets, 1 gives struts
BOTTOMLESS = 10.0  # optical depth, no signal left, of a pore that ends nowhere
CLOSED_AFTER = 4.0  # nearly all pores end within this many feature sizes
LEAST_OPENNESS = 0.05  # keeps the narrowest pore from an infinite optical depth
RIM_NM, DEEPEST_RIM_NM = 7.0, 300.0  # width of bright edges; a deeper step is no brighter
CURTAIN_NM = (150.0, 8.0)  # correlation of the curtains along z and along x
CURTAIN_OFFSET = 0.3  # additive part of a curtain, the rest multiplies
DRIFT_OFFSET = 0.3  # part of the drift that is brightness, the rest is contrast
DARK_NOISE = 0.1  # variance of the detector's own noise, relative to that of a cut face

_RANGES = {
    "slices": (1, 100_000),
    "size": (16, 16_384),
    "seed": (0, math.inf),
    "porosity": (0.05, 0.99),
    "feature_growth": (0.25, 4.0),
    "porosity_trend": (-2.0, 2.0),
    "attenuation_nm": (0.1, 1e5),
    "mouth_nm": (0.0, 1e4),
    "edge_brightening": (0.0, 5.0),
    "curtaining": (0.0, 1.0),
    "brightness_drift": (0.0, 1.0),
    "blur_nm": (0.0, 1e3),
    "noise": (0.0, 2.0),
}


@dataclass(frozen=True)
class Phantom:
    """A synthetic stack and its truth.

    Attributes
    ----------
    stack : xarray.DataArray
        Grey values, uint8, dims ``(z, y, x)``, coordinates in nm.
    truth : xarray.DataArray
        Labels on the same voxels, uint8: 1 pore, 2 solid.
    """

    stack: xr.DataArray
    truth: xr.DataArray


@dataclass(frozen=True)
class _Structure:
    porosity: float
    feature_size_nm: float
    feature_growth: float
    porosity_trend: float

    @property
    def coarsest_nm(self) -> float:
        return self.feature_size_nm * max(1.0, self.feature_growth)


@dataclass(frozen=True)
class _Optics:
    attenuation_nm: float
    mouth_nm: float
    edge_brightening: float


@dataclass(frozen=True)
class _Camera:
    curtaining: float
    brightness_drift: float
    blur_nm: float
    noise: float


def make_phantom(
    slices: int = 600,
    size: int = 256,
    *,
    seed: int = 0,
    porosity: float = 0.8,
    spacing_nm: Spacing = (10.0, 10.0, 10.0),
    feature_size_nm: float = FEATURE_SIZE_NM,
    feature_growth: float = 1.3,
    porosity_trend: float = 0.0,
    attenuation_nm: float = ATTENUATION_NM,
    mouth_nm: float = 50.0,
    edge_brightening: float = 0.6,
    curtaining: float = 0.05,
    brightness_drift: float = 0.1,
    blur_nm: float = 7.0,
    noise: float = NOISE,
) -> Phantom:
    """Make a FIB-SEM stack of a porous membrane with pore-backs, and its exact truth.

    A larger z lies deeper and is milled later. The same parameters give the same bytes; the
    truth does not depend on what concerns only the picture (`attenuation_nm` and all below it).

    Parameters
    ----------
    slices, size
        Shape of the stack: ``(slices, size, size)`` voxels.
    seed
        Seed of everything random.
    porosity
        Share of pore in the whole stack, 0.05 to 0.99; met to one voxel or so.
    spacing_nm
        Voxel size in nm ``(z, y, x)``.
    feature_size_nm
        Mean wavelength of the random fields in the first slice, about the distance between two
        struts.
    feature_growth
        Feature size in the last slice over that in the first.
    porosity_trend
        How fast the local porosity rises along z; 0: it only fluctuates, negative: it falls.
    attenuation_nm
        Depth at which the back wall of a wide pore shows with 1/e of the cut face's signal.
    mouth_nm
        Radius (standard deviation) in which the walls around a pore's axis hide its back from
        the detector.
    edge_brightening
        Extra signal of a steep edge, relative to the cut face.
    curtaining
        Standard deviation of the vertical stripes, relative to the cut face.
    brightness_drift
        Drift of brightness and contrast from the first to the last slice, relative to the face.
    blur_nm
        Standard deviation of the beam's profile in nm.
    noise
        Standard deviation of the shot noise on the cut face, relative to the face's signal.

    Returns
    -------
    Phantom
        Stack and truth, each uint8 of shape ``(slices, size, size)``.

    Raises
    ------
    ParameterError
        If a parameter lies outside its range.

    References
    ----------
    .. [1] Cahn, J. W. (1965). Phase separation by spinodal decomposition in isotropic systems.
       J. Chem. Phys. 42, 93-99.
    .. [2] Teubner, M. (1991). Level surfaces of Gaussian random fields and microemulsions.
       Europhys. Lett. 14, 403-408.
    .. [3] Prill, T. and Schladitz, K. (2013). Simulation of FIB-SEM images for analysis of
       porous microstructures. Scanning 35, 189-195.

    Examples
    --------
    >>> phantom = make_phantom(20, 64, seed=1)
    >>> phantom.stack.shape, round(float((phantom.truth == 1).mean()), 3)
    ((20, 64, 64), 0.8)
    """
    _check_ranges({name: value for name, value in locals().items() if name in _RANGES})
    check_lengths(spacing_nm, feature_size_nm)
    structure = _Structure(porosity, feature_size_nm, feature_growth, porosity_trend)
    optics = _Optics(attenuation_nm, mouth_nm, edge_brightening)
    camera = _Camera(curtaining, brightness_drift, blur_nm, noise)
    structure_rng, camera_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)
    )
    below = math.ceil(CLOSED_AFTER * structure.coarsest_nm / spacing_nm[0])
    solid = _membrane(structure_rng, (slices, size, size), below, spacing_nm, structure)
    grey = _record(camera_rng, _seen(solid, slices, spacing_nm, optics), spacing_nm, camera)
    stack = make_stack(grey, spacing_nm=spacing_nm, name="phantom")
    labels = np.where(solid[:slices], np.uint8(SOLID), np.uint8(PORE))
    return Phantom(stack, make_labels(labels, like=stack, name="truth"))


def _check_ranges(values: dict[str, float]) -> None:
    for name, value in values.items():
        low, high = _RANGES[name]
        if not low <= value <= high:
            rule = f"must be at least {low}" if high == math.inf else f"must be {low} to {high}"
            raise ParameterError(name, rule, value, "Leave it out for the default.")


def check_lengths(spacing_nm: Spacing, feature_size_nm: float) -> None:
    """Refuse a voxel size that is none, and features of fewer than 4 or more than 400 voxels."""
    if len(spacing_nm) != 3 or not all(0 < step < math.inf for step in spacing_nm):
        raise ParameterError(
            "spacing_nm",
            "must be three positive numbers in nm (z,y,x)",
            spacing_nm,
            "Give for example 20,10,10.",
        )
    low, high = 4 * max(spacing_nm), 400 * min(spacing_nm)
    if not low <= feature_size_nm <= high:
        raise ParameterError(
            "feature_size_nm",
            f"must be {low:g} to {high:g} with voxels of {spacing_nm} nm (4 to 400 voxels)",
            feature_size_nm,
            "Change it or spacing_nm.",
        )


def _membrane(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    below: int,
    spacing_nm: Spacing,
    structure: _Structure,
) -> BoolArray:
    """Where there is solid, shape ``(slices + below, y, x)``.

    Solid is where ``a**2 + STRUT_WEIGHT * b**2`` of two independent Gaussian fields is small:
    sheets around the zero level of `a`, with holes where `b` is large.
    """
    slices = shape[0]
    # The fields are periodic: a feature size more keeps the top out of what lies below.
    guard = math.ceil(structure.coarsest_nm / spacing_nm[0])
    full = (fft.next_fast_len(slices + below + guard, real=True), *shape[1:])
    depth = np.clip(np.arange(full[0]) / max(slices - 1, 1), 0, 1).astype(np.float32)
    field, second = (
        np.square(_graded_field(rng, full, depth, spacing_nm, structure))
        for _ in track(range(2), "Structure")
    )
    second *= np.float32(STRUT_WEIGHT)
    field += second
    field *= np.exp(structure.porosity_trend * (2 * depth - 1))[:, None, None]
    solid_voxels = round((1 - structure.porosity) * math.prod(shape))
    level = np.partition(field[:slices], solid_voxels, axis=None)[solid_voxels]
    return np.asarray(field[: slices + below] < level)


def _graded_field(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    depth: FloatArray,
    spacing_nm: Spacing,
    structure: _Structure,
) -> FloatArray:
    """Gaussian field of variance 1 whose wavelength changes with `depth` (0 to 1) along z."""
    first = structure.feature_size_nm
    field = _random_field(rng, shape, spacing_nm, first)
    field *= np.sqrt(1 - depth)[:, None, None]
    last = _random_field(rng, shape, spacing_nm, first * structure.feature_growth)
    last *= np.sqrt(depth)[:, None, None]
    field += last
    return field


def _random_field(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_nm: Spacing,
    wavelength_nm: float,
) -> FloatArray:
    """Isotropic Gaussian field of variance 1 with a spectrum around one wavelength."""
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32), workers=-1)
    kz, ky, kx = (
        frequency(count, step).astype(np.float32)
        for frequency, count, step in zip(
            (fft.fftfreq, fft.fftfreq, fft.rfftfreq), shape, spacing_nm, strict=True
        )
    )
    lateral = ky[:, None] ** 2 + kx**2
    for plane, k in zip(spectrum, kz, strict=True):
        off = (np.sqrt(lateral + k**2) * np.float32(wavelength_nm) - 1) / np.float32(BANDWIDTH)
        plane *= np.exp(-0.5 * off**2)
    field: FloatArray = fft.irfftn(spectrum, shape, workers=-1, overwrite_x=True)
    field /= field.std()
    return field


def _seen(solid: BoolArray, slices: int, spacing_nm: Spacing, optics: _Optics) -> FloatArray:
    """Signal of the first surface under each pixel, shape ``(slices, y, x)``; 1 is a cut face.

    From the bottom up, each pore voxel is one step farther from its back wall than the voxel
    below it. The step costs more signal the less open the surroundings are at that depth.
    """
    step_z, *lateral = spacing_nm
    mouth = [optics.mouth_nm / step for step in lateral]
    step_tau = np.float32(step_z / optics.attenuation_nm)
    depth = np.full(solid.shape[1:], len(solid) * step_z, np.float32)
    tau = np.full(solid.shape[1:], BOTTOMLESS, np.float32)
    signal = np.empty((slices, *solid.shape[1:]), np.float32)
    for z in track(range(len(solid) - 1, -1, -1), "Phantom"):
        pore = ~solid[z]
        openness = ndimage.gaussian_filter(pore.astype(np.float32), mouth)
        depth = (depth + np.float32(step_z)) * pore
        tau = (tau + step_tau / np.maximum(openness, np.float32(LEAST_OPENNESS))) * pore
        if z < slices:
            signal[z] = np.exp(-tau) * (1 + optics.edge_brightening * _tilt(depth, lateral))
    return signal


def _tilt(depth: FloatArray, lateral_nm: list[float]) -> FloatArray:
    """``1 - cos`` of the slope of the seen surface: 0 where flat, towards 1 on a steep edge."""
    relief = ndimage.gaussian_filter(
        np.minimum(depth, np.float32(DEEPEST_RIM_NM)), [RIM_NM / step for step in lateral_nm]
    )
    slope_y, slope_x = np.gradient(relief, *lateral_nm)
    tilt: FloatArray = 1 - 1 / np.sqrt(1 + slope_y**2 + slope_x**2)
    return tilt


def _record(
    rng: np.random.Generator, signal: FloatArray, spacing_nm: Spacing, camera: _Camera
) -> npt.NDArray[np.uint8]:
    """Grey values, uint8, of a signal: beam blur, curtains, drift, shot and detector noise."""
    grey = np.empty(signal.shape, np.uint8)
    blur = [camera.blur_nm / step for step in spacing_nm[1:]]
    stripes = _curtains(rng, signal.shape, spacing_nm, camera.curtaining)
    drift = _drift(len(signal), camera.brightness_drift)
    for z, plane in enumerate(track(signal, "Recording")):
        seen = _apply(ndimage.gaussian_filter(plane, blur), stripes[z], CURTAIN_OFFSET)
        seen = _apply(seen, drift[z], DRIFT_OFFSET)
        spread = camera.noise * np.sqrt(np.maximum(seen, 0) + np.float32(DARK_NOISE))
        seen += spread * rng.standard_normal(seen.shape, dtype=np.float32)
        value = np.rint(BLACK_LEVEL + (FACE_LEVEL - BLACK_LEVEL) * seen)
        grey[z] = np.clip(value, 0, 255).astype(np.uint8)
    return grey


def _apply(signal: FloatArray, change: FloatArray | np.float32, additive: float) -> FloatArray:
    """Brighten a face (signal 1) by `change`, the `additive` part of it independent of signal."""
    share = np.float32(additive)
    brightened: FloatArray = signal * (1 + (1 - share) * change) + share * change
    return brightened


def _curtains(
    rng: np.random.Generator, shape: tuple[int, ...], spacing_nm: Spacing, strength: float
) -> FloatArray:
    """Stripes along y, shape ``(z, x)``, that last for some slices."""
    white = rng.standard_normal((shape[0], shape[2]), dtype=np.float32)
    sigma = (CURTAIN_NM[0] / spacing_nm[0], CURTAIN_NM[1] / spacing_nm[2])
    stripes: FloatArray = ndimage.gaussian_filter(white, sigma)
    stripes *= np.float32(strength / stripes.std())
    return stripes


def _drift(slices: int, strength: float) -> FloatArray:
    """Change of the face's signal per slice: a fall along the stack with a slow wave on it."""
    way = np.linspace(0, 1, slices)
    change = strength * (0.5 - way + 0.15 * np.sin(4 * np.pi * way))
    return change.astype(np.float32)
