"""What forks of Caffe have and Caffe has not: layer types, fields and values, so that errors can name the fork.

This is a table of names for errors, nothing is read with it. A type or field that this package gets is removed here.
"""

from __future__ import annotations

# Layer type -> the field with its parameters (empty if it has none of its own), and the forks that have it.
TYPES = {
    "AdaptiveBiasChannel": ("adaptive_bias_channel_param", "PSPNet"),
    "AnnotatedData": ("annotated_data_param", "SSD, Intel, MobileNet-YOLO"),
    "Axpy": ("", "SENet, Intel, MobileNet-YOLO"),
    "BatchReduction": ("batch_reduction_param", "TSN"),
    "BiasChannel": ("bias_channel_param", "PSPNet"),
    "BN": ("bn_param", "PSPNet, TSN, SegNet, Synopsys"),
    "BoxAnnotatorOHEM": ("box_annotator_ohem_param", "R-FCN, Intel"),
    "CenterLoss": ("center_loss_param", "caffe-face"),
    "ConvolutionDepthwise": ("", "pull request 5665, ShuffleNet, Synopsys"),
    "DenseCRF": ("dense_crf_param", "PSPNet"),
    "DenseImageData": ("dense_image_data_param", "SegNet, Synopsys"),
    "DepthwiseConvolution": ("", "MobileNet-YOLO"),
    "DetectionEvaluate": ("detection_evaluate_param", "SSD, Intel, MobileNet-YOLO"),
    "DetectionOutput": ("detection_output_param", "SSD, Intel, MobileNet-YOLO"),
    "DomainTransform": ("domain_transform_param", "PSPNet"),
    "EvalDetection": ("eval_detection_param", "Intel"),
    "Interp": ("interp_param", "DeepLab, PSPNet, Synopsys"),
    "MarginInnerProduct": ("margin_inner_product_param", "SphereFace"),
    "MatRead": ("mat_read_param", "PSPNet"),
    "MatWrite": ("mat_write_param", "PSPNet"),
    "MnActivation": ("mn_activation_param", "Intel"),
    "MultiBoxLoss": ("multibox_loss_param", "SSD, Intel, MobileNet-YOLO"),
    "Normalize": ("norm_param", "SSD, Intel, MobileNet-YOLO; TSN and NormFace have another one"),
    "Permute": ("permute_param", "SSD, Intel, MobileNet-YOLO, Synopsys"),
    "PriorBox": ("prior_box_param", "SSD, Intel, MobileNet-YOLO"),
    "Proposal": ("proposal_param", "PVANet, Synopsys"),
    "PSROIPooling": ("psroi_pooling_param", "R-FCN, Intel"),
    "RegionLoss": ("region_loss_param", "Intel, MobileNet-YOLO"),
    "ReLU6": ("relu6_param", "MobileNet-YOLO"),
    "Reorg": ("reorg_param", "Intel, MobileNet-YOLO, Synopsys"),
    "ROIAlign": ("roi_align_param", "Synopsys"),
    "ROIPooling": ("roi_pooling_param", "Fast R-CNN, Faster R-CNN, PVANet, Intel, TSN, Synopsys"),
    "SegAccuracy": ("seg_accuracy_param", "PSPNet"),
    "SegData": ("seg_data_param", "TSN"),
    "SegmentationEvaluate": ("segmentation_evaluate_param", "MobileNet-YOLO"),
    "ShuffleChannel": ("shuffle_channel_param", "ShuffleNet, Synopsys"),
    "SmoothL1Loss": ("smooth_l1_loss_param", "Fast R-CNN, Faster R-CNN, SSD, PVANet, Intel, Synopsys"),
    "SmoothL1LossOHEM": ("", "R-FCN, Intel"),
    "SoftmaxWithLossOHEM": ("", "R-FCN, Intel"),
    "SpatialDropout": ("spatial_dropout_param", "Intel"),
    "UniqueLabel": ("unique_label_param", "PSPNet"),
    "Upsample": ("upsample_param", "SegNet, MobileNet-YOLO, Synopsys"),
    "UpsampleDarknet": ("upsample_darknet_param", "Synopsys"),
    "VideoData": ("video_data_param", "SSD, Intel, TSN"),
    "YoloDetectionOutput": ("yolo_detection_output_param", "MobileNet-YOLO"),
    "YoloSeg": ("yolo_seg_param", "MobileNet-YOLO"),
    "Yolov3": ("yolov3_param", "MobileNet-YOLO"),
    "Yolov3DetectionOutput": ("yolov3_detection_output_param", "MobileNet-YOLO"),
}

_SSD = "SSD, Intel, MobileNet-YOLO"
_QUANTIZED = "input_scale output_scale input_zero_point output_zero_point saturate quantize_method"

# Message of Caffe -> forks -> the fields that they add to it.
FIELDS = {
    "NetParameter": {
        "Intel": "compile_net_state engine bn_stats_batch_size multinode",
        "TSN": "mem_param",
    },
    "SolverParameter": {
        _SSD: "eval_type ap_version show_per_class_result",
        "SSD, PVANet, Intel, MobileNet-YOLO": "plateau_winsize",
        "Intel, MobileNet-YOLO": "stagelr stageiter",
        "Intel": "disabled_update engine warmup_iter warmup_start_lr local_lr_auto local_gw_ratio test_offset",
        "TSN": "group_id richness",
    },
    "LayerParameter": {
        "Intel": "split_param engine multinode mn_grad_compress_param quantization_param",
    },
    "V1LayerParameter": {
        "MobileNet-YOLO": "relu6_param",
    },
    "TransformationParameter": {
        _SSD: "crop_h crop_w resize_param noise_param distort_param expand_param emit_constraint",
        "Intel": "random_resize_param random_aspect_ratio_param flow bgr2rgb pad",
        "MobileNet-YOLO": "enable_classf_aug min_scaling_factor max_scaling_factor max_rotation_angle max_smooth "
        "contrast_brightness_adjustment smooth_filtering min_contrast max_contrast max_brightness_shift max_color_shift "
        "min_side_min min_side_max min_side apply_probability debug_params cvt_bgr2rgb",
        "PSPNet": "scale_factors crop_width crop_height",
        "TSN": "fix_crop more_fix_crop multi_scale scale_ratios max_distort is_flow original_image stride upper_size "
        "upper_height upper_width",
    },
    "BatchNormParameter": {
        "Intel": "engine use_weight_bias bias_term filler bias_filler stats_batch_size relu",
        "PSPNet, Synopsys": "update_global_stats",
        "Synopsys": "add_eps_before_sqrt icnet",
    },
    "ConcatParameter": {"Intel": "per_fla_fuse engine"},
    "ConvolutionParameter": {
        "Intel": "relu negative_slope conv_algorithm coeff fusion_type",
        "TSN": "dilation_h dilation_w",
        "Synopsys": f"{_QUANTIZED} pad_type pad_l pad_r pad_t pad_b weight_scale weight_zero_point weight_fixed dis_mode "
        "per_channel_scale_weight per_channel_scale_output submanifold_sparse gen_mode shape_offset",
    },
    "DataParameter": {"Intel, TSN": "shuffle", "Intel": "side"},
    "DropoutParameter": {"Fast R-CNN, Synopsys": "scale_train", "SegNet, Synopsys": "sample_weights_test"},
    "EltwiseParameter": {"Intel": "engine"},
    "FillerParameter": {"Intel": "scale"},
    "ImageDataParameter": {"Intel": "min_height min_width", "DeepLab, PSPNet": "ignore_label label_type"},
    "InnerProductParameter": {"Intel": "engine relu negative_slope"},
    "LossParameter": {
        "R-FCN, Intel": "pre_fixed_normalizer",
        "Intel": "label_smoothing",
        "SegNet": "weight_by_label_freqs class_weighting",
    },
    "PoolingParameter": {
        "pull request 3057, Synopsys": "ceil_mode",
        "Intel": "pad_3d kernel_size_3d stride_3d avg_include_pad axis",
        "Synopsys": f"{_QUANTIZED} pad_type pad_l pad_r pad_t pad_b output_shift_instead_division",
    },
    "ReductionParameter": {"TSN": "k"},
    "ReLUParameter": {"Intel": "fuse", "Synopsys": f"{_QUANTIZED} relu6 maximum minimum"},
    "ReshapeParameter": {"Intel": "pixelshuffler"},
}

# (message, field) -> what Caffe has for the same purpose.
INSTEAD = {
    ("PoolingParameter", "ceil_mode"): "Caffe has round_mode: FLOOR for ceil_mode: false, and CEIL, the default, for true",
    ("TransformationParameter", "resize_param"): "Caffe resizes images when their database is made: convert_imageset",
}

# Value of an enum -> the forks that have it.
VALUES = {"MKL2017": "Intel", "MKLDNN": "Intel", "PRE_FIXED": "R-FCN, Intel"}


def of_type(name: str) -> str:
    """The end of a sentence that says which forks have a layer type; empty if none is known."""
    if name not in TYPES:
        return ""
    field, forks = TYPES[name]
    return _only(forks, f"it, nor its field {field}" if field else "it")


def of_field(message: str, field: str) -> str:
    """The end of a sentence that says which forks have a field in a message of Caffe; empty if none is known."""
    for forks, fields in FIELDS.get(message, {}).items():
        if field in fields.split():
            instead = INSTEAD.get((message, field), "")
            return f"{_only(forks)}; {instead}" if instead else _only(forks)
    for name, (own_field, forks) in TYPES.items():
        if message in ("LayerParameter", "V1LayerParameter") and field == own_field:
            return f'{_only(forks)}, for layers of type "{name}"'
    return ""


def of_value(name: str) -> str:
    """The end of a sentence that says which forks have a value of an enum, or an old type; empty if none is known."""
    if name in VALUES:
        return _only(VALUES[name])
    plain = name.replace("_", "").lower()  # an old "layers" has type: ROI_POOLING
    return next((of_type(type_name) for type_name in TYPES if type_name.lower() == plain), "")


def _only(forks: str, what: str = "it") -> str:
    return f": Caffe does not have {what}, only forks do: {forks}"
