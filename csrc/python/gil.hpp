// The interpreter's lock around C++ code, safe when the interpreter ends.
//
// Up to Python 3.13 a thread that wants the lock while the interpreter is taken down is ended by
// pthread_exit, and its unwinding aborts the process at the first C++ frame. So once end() was
// called, at exit, such threads stay here for ever, as Python 3.14 lets them.
#pragma once

#include <pybind11/pybind11.h>

namespace mrl::python {

// Lets other threads run Python while this one runs C++.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil();
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

  private:
    PyThreadState* state_;
};

// Runs Python out of such code, in whichever thread.
class WithGil {
  public:
    WithGil();
    ~WithGil() { PyGILState_Release(state_); }
    WithGil(const WithGil&) = delete;
    WithGil& operator=(const WithGil&) = delete;

  private:
    PyGILState_STATE state_;
};

// Calls end() at the exit of the interpreter: from then on only the thread that exits comes back to
// Python.
void end_at_exit();

}  // namespace mrl::python
