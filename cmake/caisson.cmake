# caisson_precompile(TARGET [header...]): in release builds, the standard library's headers are read once per target, not once per file: a fifth
# of the build's time. Other builds go without, so that a file that lacks an include of its own does not build there.
function(caisson_precompile target)
  if(CMAKE_BUILD_TYPE STREQUAL Release)
    set(headers algorithm charconv chrono filesystem functional map memory mutex optional set string string_view thread unordered_map variant vector ${ARGN})
    list(TRANSFORM headers REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
    target_precompile_headers(${target} PRIVATE ${headers})
  endif()
endfunction()

add_custom_target(unit_tests)  # every NAME_test of caisson_library

# caisson_library(NAME [DEPENDS lib...] [EXCLUDE regex] [PRECOMPILE header...]): a static library from every *.cc of the folder but *_test.cc and
# main.cc, and, where there are any *_test.cc, a GoogleTest program NAME_test that ctest runs.
# Dependencies point down the list in CMakeLists.txt only; link visibility makes it so.
function(caisson_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;SOURCES;EXCLUDE;PRECOMPILE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(ARG_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "${ARG_EXCLUDE}")
  endif()
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|/main)\\.cc$")
  if(NOT sources AND NOT ARG_SOURCES)
    message(STATUS "caisson_${name} has no sources yet")
    file(TOUCH ${CMAKE_CURRENT_BINARY_DIR}/empty.cc)
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/empty.cc)
  endif()
  add_library(caisson_${name} STATIC ${sources} ${ARG_SOURCES})
  target_link_libraries(caisson_${name} PUBLIC ${ARG_DEPENDS})
  caisson_precompile(caisson_${name} ${ARG_PRECOMPILE})
  if(tests AND NOT CAISSON_FUZZ)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE caisson_${name} GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE CAISSON_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    add_test(NAME ${name} COMMAND ${name}_test)
    add_dependencies(unit_tests ${name}_test)
  endif()
endfunction()

# caisson_program(NAME SOURCES... LIBS...): a program. Static (but for sanitizer builds): it starts in a millisecond, runs
# in an initramfs, and takes nothing from a container's root file system.
function(caisson_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS})
  if(NOT CAISSON_SANITIZE)
    target_link_options(${name} PRIVATE -static)
  endif()
endfunction()
