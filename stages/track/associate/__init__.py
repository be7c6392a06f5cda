"""Association across layers: layers are scans, active latents are detections. `follow` is the one way in."""
