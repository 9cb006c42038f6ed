"""What score.py is made of: metrics, result files, released weights, the VOC server's archive, shift-and-stitch."""
