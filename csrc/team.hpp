// Threads that stand by for parallel loops: the members of OpenMP regions that never end.
//
// A loop belongs to its caller, who works on it from the first moment; whoever of the team comes in time takes part.
// Each member has a range of its own and helps with the others' when it is done. So nobody waits for a thread that
// sleeps, or that the system has put aside: at the end the caller waits for those alone who are in the middle of a
// chunk.
#pragma once

#include <string>

#include "contract.hpp"

namespace fastnn {
namespace team {

bool has_openmp();
int offered();               // how many threads OpenMP would use on the calling thread, itself included
bool in_foreign_region();    // whether the calling thread is inside an OpenMP region
std::string runtime_path();  // the OpenMP library in use, "" without one

using Body = void (*)(void* context, index begin, index end);

// Makes sure that `helpers` threads stand by, as far as OpenMP gives them; returns how many do.
int recruit(int helpers);

// Calls body on chunks that cover 0..tasks, on the calling thread and on at most `helpers` others. One caller at a
// time. Returns how many threads took part; with `everybody`, all of them do, each with its own range (for tests).
// The first exception that body throws reaches the caller, once everybody has left.
int run(int helpers, index tasks, Body body, void* context, bool everybody);

// What it costs to wake the team, as far as measured in this process: the caller's time for it, and the time until
// somebody comes.
double waking_ns();

// How long an idle member watches for the next loop before it goes to sleep, which costs the caller a few
// microseconds to undo. Longer, and it would take the core from whoever computes between two calls.
constexpr double watch_ns = 20e3;

}  // namespace team
}  // namespace fastnn
