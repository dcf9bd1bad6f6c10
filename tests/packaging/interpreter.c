/* Makes a whole Python of a program that has one inside, by LD_PRELOAD: its main becomes Python's,
   or, where the linker left that out, three lines of Python that do as much as a test needs. */
#define _GNU_SOURCE
#include <dlfcn.h>

typedef int Main(int, char**, char**);
typedef int Start(Main*, int, char**, void*, void*, void*, void*);

static const char kMain[] =
    "import os, runpy, sys\n"
    "with open('/proc/self/cmdline') as line: sys.argv = line.read().split('\\0')[1:-1]\n"
    "if sys.argv[0] == '-m': runpy.run_module(sys.argv.pop(1), None, '__main__', True)\n"
    "elif sys.argv[0] == '-c': exec(sys.argv.pop(1), {'__name__': '__main__'})\n"
    "else:\n"
    "    sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
    "    runpy.run_path(sys.argv[0], run_name='__main__')\n";

static void* function(const char* name) { return dlsym(RTLD_DEFAULT, name); }

static int run(int argc, char** argv, char** environment) {
    int (*whole)(int, char**) = function("Py_BytesMain");
    (void)environment;
    if (whole) return whole(argc, argv);
    ((void (*)(void))function("Py_Initialize"))();
    int failed = ((int (*)(const char*, void*))function("PyRun_SimpleStringFlags"))(kMain, 0);
    return ((int (*)(void))function("Py_FinalizeEx"))() || failed;
}

int __libc_start_main(Main* main, int argc, char** argv, void* a, void* b, void* c, void* d) {
    (void)main;
    return ((Start*)dlsym(RTLD_NEXT, "__libc_start_main"))(run, argc, argv, a, b, c, d);
}
