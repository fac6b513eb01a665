"""Current names of config keys that were renamed, so that an old config fails with a helpful message."""

RENAMED = {
    "rehearsal": "synthetic",
    "sentinel2.scl_drop": "scl_mask_classes",
    "sentinel2.scl_buffer_m": "mask_dilation_m",
    "sentinel2.min_clear": "min_clear_observations",
    "sentinel2.widen_days": "season_padding_days",
    "sentinel2.edge_m": "swath_edge_buffer_m",
    "sentinel2.cloud_probability": "s2cloudless_threshold",
    "sentinel2.clear_score": "cloud_score_plus_threshold",
    "sentinel2.register_dates": "coregister",
    "sentinel2.dark_object": "dark_object_subtraction",
    "sentinel2.requests": "parallel_requests",
    "sentinel2.dates": "merged_dates",
    "dataset.reserve_share": "replacement_fraction",
    "dataset.density": "prior_density",
    "dataset.min_quality": "min_correlation",
    "ablation.arms": "variants",
    "accuracy.consistency": "temporal_consistency",
    "accuracy.temporal_consistency.gain": "gain_rate",
    "accuracy.temporal_consistency.loss": "loss_rate",
    "accuracy.temporal_consistency.missed": "omission_rate",
    "accuracy.temporal_consistency.false": "commission_rate",
    "accuracy.temporal_consistency.share": "initial_fraction",
    "accuracy.products.*.unknown": "nodata",
    "accuracy.products.*.share_of": "full_cover_code",
}


def current_name(location: tuple[str | int, ...]) -> str | None:
    """Return the current name of the key at a location of the config; None if the key never existed."""
    key = ".".join(map(str, location))
    wildcard = ".".join("*" if position == 2 else str(part) for position, part in enumerate(location))
    return RENAMED.get(key) or RENAMED.get(wildcard)
