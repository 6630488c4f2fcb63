"""fold-scale: factors and summands per channel become part of the weights beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leptonc.passes.base import RewritePass
from leptonc.passes.contract import REASSOCIATES, Contract
from leptonc.passes.fusion import (
    scale_after_rules as after,
)
from leptonc.passes.fusion import (
    scale_before_rules as before,
)
from leptonc.passes.fusion import (
    scale_norm_rules as norms,
)
from leptonc.passes.fusion import (
    scale_product_rules as products,
)
from leptonc.passes.fusion import (
    scale_view_rules as views,
)
from leptonc.passes.rewrite import Rule


@dataclass(frozen=True)
class FoldScale(RewritePass):
    """Folds factors and summands per channel into constants beside them.

    They become part of the weights and biases of products, recurrent layers, normalisations and
    tables. Behind a product both are always legal; before one, a summand only where no padding is
    read. Reshapes and transposes may stand in between. One factor of an operand of a product of
    two tensors is moved behind it; what then meets another constant becomes one with it. A large
    weight that something else reads too stays as it is.
    """

    name: ClassVar[str] = "fold-scale"
    numbers: ClassVar[Contract] = REASSOCIATES
    rules: ClassVar[tuple[Rule, ...]] = (
        views.constant_before_movement, views.sign_before_movement,
        views.constant_behind_movement,
        after.factor_into_product, after.divisor_into_product, after.summand_into_bias,
        after.subtrahend_into_bias, after.minuend_into_bias, after.sign_into_product,
        before.factor_before_product, before.divisor_before_product, before.sign_before_product,
        before.summand_before_product, before.subtrahend_before_product,
        before.minuend_before_product, before.factor_before_summand, before.factor_before_recurrent,
        before.summand_before_recurrent,
        norms.factor_into_layer_norm, norms.summand_into_layer_norm, norms.factor_into_rms_norm,
        norms.factor_into_channel_norm, norms.summand_into_channel_norm, norms.factor_into_table,
        norms.summand_into_table,
        products.factor_into_right, products.factor_into_left, products.factor_before_right,
        products.factor_before_left, products.factor_behind_left, products.factor_behind_right,
        products.merge_factors, products.merge_factor_and_sum, products.merge_summands,
    )  # fmt: skip
