"""The names of all parts: kind -> name -> "module:class". Strings, so that listing them loads nothing."""


def _in(room: str, **classes: str) -> dict[str, str]:
    return {name: f"flowpaint.parts.{room}:{found}" for name, found in classes.items()}


TABLE: dict[str, dict[str, str]] = {
    "method": {
        "analogy": "flowpaint.methods.analogy:Analogy",
        "warp": "flowpaint.methods.baselines:Warp",
        "freeze": "flowpaint.methods.baselines:Freeze",
        "frame-by-frame": "flowpaint.methods.baselines:FrameByFrame",
        "deflicker": "flowpaint.methods.deflicker:Deflicker",
        "colorize": "flowpaint.methods.colorize:Colorize",
        "fresco": "flowpaint.methods.fresco:Fresco",
        "flowvid": "flowpaint.methods.flowvid:FlowVid",
    },
    "editor": {
        "looks": "flowpaint.parts.editors:LookEditor",
        "style": "flowpaint.parts.editors:StyleEditor",
        "picture": "flowpaint.parts.editors:PictureEditor",
        "diffusion": "flowpaint.parts.editors:DiffusionEditor",
    },
    "model": {
        "stable-diffusion": "flowpaint.diffusion.model:LatentDiffusion",
        "wan-vace": "flowpaint.diffusion.vace:WanVace",
    },
    "consistency": {
        "fresco": "flowpaint.parts.consistency.fresco:Fresco",
        "plain": "flowpaint.parts.consistency.plain:Plain",
    },
    "flow": {
        "dis": "flowpaint.parts.flow:DisFlow",
        "raft": "flowpaint.parts.flow:RaftFlow",
        "by-distance": "flowpaint.parts.flow:ByDistance",
    },
    "condition": _in("conditions", canny="CannyEdges", softedge="SoftEdges", hed="HedEdges", depth="DepthAnything"),
    "segmenter": _in("segment", motion="MotionSegmenter", mask="MaskSegmenter", sam2="Sam2Segmenter"),
    "extractor": {
        "clip": "flowpaint.parts.features:ClipFeatures",
        "vgg16": "flowpaint.parts.features:VggFeatures",
        "alexnet": "flowpaint.parts.features:AlexFeatures",
        "inception": "flowpaint.parts.features:InceptionFeatures",
        "i3d": "flowpaint.parts.features:I3dFeatures",
        "c3d": "flowpaint.parts.features:C3dFeatures",
    },
    "metric": {
        "fidelity": "flowpaint.parts.metrics.pictures:Fidelity",
        "identity": "flowpaint.parts.metrics.pictures:Identity",
        "truth": "flowpaint.parts.metrics.pictures:Truth",
        "edit-strength": "flowpaint.parts.metrics.pictures:EditStrength",
        "sharpness": "flowpaint.parts.metrics.pictures:Sharpness",
        "warp-error": "flowpaint.parts.metrics.steadiness:WarpError",
        "pixel-mse": "flowpaint.parts.metrics.steadiness:PixelMse",
        "flicker": "flowpaint.parts.metrics.steadiness:Flicker",
        "colour-drift": "flowpaint.parts.metrics.steadiness:ColourDrift",
        "shape": "flowpaint.parts.metrics.steadiness:ShapeConsistency",
        "cost": "flowpaint.parts.metrics.steadiness:Cost",
        "clip": "flowpaint.parts.metrics.text:ClipAgreement",
        "lpips": "flowpaint.parts.metrics.perceptual:Lpips",
        "spat-con": "flowpaint.parts.metrics.perceptual:SpatialConsistency",
        "fid": "flowpaint.parts.metrics.distribution:FrechetPictures",
        "fvd": "flowpaint.parts.metrics.distribution:FrechetClips",
        "inception-score": "flowpaint.parts.metrics.distribution:InceptionScore",
        "video-inception-score": "flowpaint.parts.metrics.distribution:VideoInceptionScore",
        "dover": "flowpaint.parts.metrics.quality:Dover",
    },
    "propagator": {
        "analogy": "flowpaint.parts.propagate:Analogy",
        "warp": "flowpaint.parts.propagate:WarpChain",
        "freeze": "flowpaint.parts.propagate:Freeze",
        "ebsynth": "flowpaint.parts.propagate:EbSynth",
        "interpolate": "flowpaint.parts.propagate:Interpolated",
    },
    "interpolator": {
        "blend": "flowpaint.parts.interpolate:FlowBlend",
        "rife": "flowpaint.parts.interpolate:Rife",
    },
    "completer": _in("complete", harmonic="Harmonic", refiner="Refined"),
    "image-to-video": {},
    "executor": {"local": "flowpaint.parts.execute:LocalExecutor"},
    "cutter": {"clips": "flowpaint.training.clips:ClipCutter"},
    "hinter": {"hints": "flowpaint.training.hinted:HintMaker"},
    "trainer": {
        "autoencoder": "flowpaint.training.autoencoder:AutoencoderTrainer",
        "image": "flowpaint.training.image:ImageTrainer",
        "control": "flowpaint.training.control:ControlTrainer",
        "flowvid": "flowpaint.training.flowvid:FlowVidTrainer",
        "refiner": "flowpaint.training.refiner:RefinerTrainer",
    },
    "optimisation": {"adamw": "flowpaint.training.recipes:AdamW"},
}
