# The library `zydis`: Zydis' decoder of x86 instructions in its minimal mode (lengths, opcodes and attributes; no operands), compiled here so
# that sanitizers and fuzzers see into it. scripts/fetch-zydis brings the sources.
set(CAISSON_ZYDIS /var/cache/caisson/zydis-4.0.0 CACHE PATH "Zydis' sources, as scripts/fetch-zydis leaves them")
find_path(ZYCORE_INCLUDE Zycore/Types.h)
if(NOT EXISTS ${CAISSON_ZYDIS}/src/Decoder.c OR NOT ZYCORE_INCLUDE)
  message(FATAL_ERROR "The sources of Zydis are not in ${CAISSON_ZYDIS}, or libzycore-dev is not installed: run scripts/packages build")
endif()
add_library(zydis STATIC ${CAISSON_ZYDIS}/src/Decoder.c ${CAISSON_ZYDIS}/src/DecoderData.c ${CAISSON_ZYDIS}/src/SharedData.c)
target_compile_definitions(zydis PUBLIC ZYDIS_STATIC_BUILD ZYCORE_STATIC_BUILD ZYDIS_MINIMAL_MODE ZYDIS_DISABLE_ENCODER ZYDIS_DISABLE_FORMATTER ZYDIS_DISABLE_KNC)
target_compile_options(zydis PRIVATE -O2 -w)
target_include_directories(zydis SYSTEM PUBLIC ${CAISSON_ZYDIS}/include ${ZYCORE_INCLUDE} PRIVATE ${CAISSON_ZYDIS}/src)
