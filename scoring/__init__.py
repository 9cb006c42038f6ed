"""What scores are made of: passes over a list of images, the metrics they are counted for, and the files of results.

Beside these: prediction (of an image that has no labels), submission (the VOC server's archive), released (the authors'
weights, and what they have to give), stitch (finer scores by shifted images) and upper_bounds (what a stride allows).
"""
