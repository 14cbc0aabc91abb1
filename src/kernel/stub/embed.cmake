# Writes the assembler file that carries the stub blob's bytes.
file(WRITE ${OUT} "
  .section .rodata
  .balign 4096
  .globl caisson_stub_blob
  .globl caisson_stub_blob_end
caisson_stub_blob:
  .incbin \"${BYTES}\"
caisson_stub_blob_end:
  .section .note.GNU-stack,\"\",@progbits
")
