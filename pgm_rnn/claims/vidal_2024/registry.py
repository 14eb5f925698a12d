"""The claims of the lecture."""

from pgm_rnn.claims.claim import Claim
from pgm_rnn.claims.vidal_2024.bidirectional import BidirectionalIsSmoothing
from pgm_rnn.claims.vidal_2024.curvature import ExtendedKalmanCurvature
from pgm_rnn.claims.vidal_2024.em_ascends import EmAscends
from pgm_rnn.claims.vidal_2024.extended_kalman import ExtendedKalman, ExtendedKalmanJacobians, ExtendedKalmanOffset
from pgm_rnn.claims.vidal_2024.gates import GateEquations, GruReset, LstmEpsilon, LstmHighway
from pgm_rnn.claims.vidal_2024.kalman import KalmanIsExact
from pgm_rnn.claims.vidal_2024.kalman_gate import KalmanGate
from pgm_rnn.claims.vidal_2024.linear_limit import LinearRnnLimit
from pgm_rnn.claims.vidal_2024.noisy_limit import NoisyRnnLimit
from pgm_rnn.claims.vidal_2024.parameter_tying import ParameterTying
from pgm_rnn.claims.vidal_2024.scan import ScanIsRecursion
from pgm_rnn.claims.vidal_2024.switching_mixture import SwitchingMixture
from pgm_rnn.claims.vidal_2024.vanishing_gradient import (
    GradientDirection,
    OrthogonalInitialisation,
    VanishingGradient,
    VanishingGradientTanh,
)

VIDAL_2024: tuple[Claim, ...] = (
    KalmanIsExact(),
    SwitchingMixture(),
    ScanIsRecursion(),
    LinearRnnLimit(),
    EmAscends(),
    NoisyRnnLimit(),
    KalmanGate(),
    ExtendedKalman(),
    ExtendedKalmanCurvature(),
    ExtendedKalmanJacobians(),
    ExtendedKalmanOffset(),
    ParameterTying(),
    VanishingGradient(),
    VanishingGradientTanh(),
    OrthogonalInitialisation(),
    GradientDirection(),
    GateEquations(),
    GruReset(),
    LstmHighway(),
    LstmEpsilon(),
    BidirectionalIsSmoothing(),
)
"""In the order of the slides."""
