"""What is in Caffe's files: text and bytes to messages and arrays, and back. Nothing here knows a net.

Read in this order:

* `definitions` reads message definitions as they stand in a caffe.proto; `schema` adds a program's own to Caffe's.
* `prototxt` is the text form, with errors that say where and what; `upgrade` makes nets of older Caffes today's.
* `wire` walks protobuf's bytes field by field; `stored_blob` is the one decoding of a BlobProto; `wire_file` is a
  binary file whose bulk is blobs.
* `snapshot` is weights and solver states, binary and HDF5, on top of these; `binaryproto` is an image mean.
* `file_kind` says what a file is, by its content, to all that read one.
* `atomic` writes a file whole or not at all; whatever the engine writes goes through it.
"""
