// The library of C++ names the type of an exception that nobody caught. None leaves the engine
// (engine.h), so what writes such a name out stays out of the module, a fifth of it, and the name
// would be printed as the compiler made it.
#include <cstddef>

extern "C" char* __cxa_demangle(const char*, char*, std::size_t*, int* status) {
    constexpr int kNotAName = -2;
    if (status != nullptr) *status = kNotAName;
    return nullptr;
}
