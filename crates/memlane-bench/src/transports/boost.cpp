// One side of what Boost.Interprocess offers: a program that does what it is told in lines, as worker.rs describes.
//
// What must not outlive a crash is removed as soon as both sides have it open. No destructor of a shared condition is
// ever run: it waits for waiters, also for dead ones.

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/shared_memory_object.hpp>
#include <boost/interprocess/sync/interprocess_condition.hpp>
#include <boost/interprocess/sync/interprocess_mutex.hpp>
#include <boost/interprocess/sync/scoped_lock.hpp>

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iostream>
#include <memory>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace ipc = boost::interprocess;
using Clock = std::chrono::steady_clock;
using Lock = ipc::scoped_lock<ipc::interprocess_mutex>;
using Think = std::function<void()>;

constexpr std::size_t SMALL = 64;
constexpr std::size_t CACHE_LINE = 64;
constexpr std::chrono::seconds PATIENCE{20};

struct Setup {
    bool ask;
    std::string workload;
    std::size_t len;
    bool touched;
    std::string name;
};

std::uint64_t nanoseconds(Clock::duration time) { return std::chrono::nanoseconds(time).count(); }

// The time of each round, if it is wanted, or of parts of rounds.
class Laps {
public:
    explicit Laps(bool each) : each_(each), last_(Clock::now()) {}

    void lap() {
        if (each_) note();
    }

    // Only such parts count then.
    template <class Part>
    void part(Part part) {
        const auto start = Clock::now();
        part();
        samples.push_back(nanoseconds(Clock::now() - start));
        measured = measured.value_or(0) + samples.back();
    }

    std::vector<std::uint64_t> samples;
    std::optional<std::uint64_t> measured;

private:
    [[gnu::noinline]] void note() {
        const auto now = Clock::now();
        samples.push_back(nanoseconds(now - last_));
        last_ = now;
    }

    bool each_;
    Clock::time_point last_;
};

// One side of a case that is open.
class Side {
public:
    virtual ~Side() = default;
    virtual void rounds(std::uint64_t rounds, const Think& think, Laps& laps) = 0;
};

// Hides from the compiler what becomes of the bytes.
void escape(const void* bytes) { asm volatile("" : : "r"(bytes) : "memory"); }

void fill(char* bytes, std::size_t len, char value) {
    escape(bytes);
    std::memset(bytes, value, len);
    escape(bytes);
}

void sum(const char* bytes, std::size_t len) {
    escape(bytes);
    std::uint64_t sum = 0;
    std::size_t at = 0;
    for (; at + sizeof sum <= len; at += sizeof sum) {
        std::uint64_t word;
        std::memcpy(&word, bytes + at, sizeof word);
        sum += word;
    }
    for (; at < len; ++at) sum += static_cast<unsigned char>(bytes[at]);
    escape(&sum);
}

// Checks the message of the last of so many rounds.
void check(const Setup& setup, std::uint64_t rounds, std::size_t len, char first) {
    if (rounds == 0) return;
    if (len != setup.len || (setup.touched && first != static_cast<char>(rounds - 1)))
        throw std::runtime_error("the last message of " + setup.workload + " in " + setup.name + " arrived changed");
}

// Removes a name at the end, if not before.
class Name {
public:
    explicit Name(std::string name) : name_(std::move(name)) {}
    ~Name() { remove(); }
    Name(const Name&) = delete;
    Name& operator=(const Name&) = delete;
    void remove() const { ipc::shared_memory_object::remove(name_.c_str()); }
    const char* text() const { return name_.c_str(); }

private:
    std::string name_;
};

template <class Attempt>
void wait(const std::string& what, Attempt attempt) {
    for (const auto start = Clock::now(); !attempt(); std::this_thread::sleep_for(std::chrono::microseconds(100)))
        if (Clock::now() - start > PATIENCE)
            throw std::runtime_error(what + " did not come within 20 s: see whether the other side failed");
}

// A header that both sides have mapped, with bytes behind it.
template <class Header>
class Shared {
public:
    Shared(const char* name, std::size_t len) : object_(ipc::create_only, name, ipc::read_write) {
        object_.truncate(sizeof(Layout) + len);
        region_ = ipc::mapped_region(object_, ipc::read_write);
        new (region_.get_address()) Layout;
        layout().state.store(CONSTRUCTED, std::memory_order_release);
    }

    explicit Shared(const char* name)
        : object_(ipc::open_only, name, ipc::read_write), region_(object_, ipc::read_write) {}

    // Whoever asks creates it, and the other side joins. When this returns both have it open, and its name is gone.
    static Shared meet(const Setup& setup, std::size_t len, const std::function<void()>& join = [] {}) {
        const Name name(setup.name + "-header");
        if (setup.ask) {
            Shared shared(name.text(), len);
            wait("the opening of " + setup.name, [&] { return shared.is(OPENED); });
            return shared;
        }
        std::optional<Shared> shared;
        wait(setup.name, [&] { return (shared || (shared = attempt(name.text()))) && shared->is(CONSTRUCTED); });
        join();
        shared->layout().state.store(OPENED, std::memory_order_release);
        return std::move(*shared);
    }

    Header& header() const { return layout().header; }
    char* bytes() const { return static_cast<char*>(region_.get_address()) + sizeof(Layout); }

private:
    enum State : std::uint32_t { CONSTRUCTED = 1, OPENED = 2 };

    struct Layout {
        std::atomic<std::uint32_t> state{0};
        Header header;
        alignas(CACHE_LINE) char bytes[CACHE_LINE];
    };

    // Nothing, while the object is not there or has no size yet.
    static std::optional<Shared> attempt(const char* name) {
        try {
            return Shared(name);
        } catch (const ipc::interprocess_exception&) {
            return std::nullopt;
        }
    }

    bool is(State state) const { return layout().state.load(std::memory_order_acquire) == state; }
    Layout& layout() const { return *static_cast<Layout*>(region_.get_address()); }

    ipc::shared_memory_object object_;
    ipc::mapped_region region_;
};

// The classic hand-off: one writes, and waits until the other one says that it has processed it.
struct HandOffHeader {
    ipc::interprocess_mutex mutex;
    ipc::interprocess_condition ready_changed;
    ipc::interprocess_condition processed_changed;
    bool ready = false;
    bool processed = false;
    std::size_t size = 0;
};

class HandOff : public Side {
public:
    HandOff(const Setup& setup, bool in_place)
        : setup_(setup), private_(in_place ? 0 : setup.len, 1),
          shared_(Shared<HandOffHeader>::meet(setup, setup.len)) {}

    void rounds(std::uint64_t rounds, const Think& think, Laps& laps) override {
        if (setup_.ask)
            ask(rounds, think, laps);
        else
            answer(rounds, think);
    }

private:
    void ask(std::uint64_t rounds, const Think& think, Laps& laps) {
        const bool idle = setup_.workload == "Idle";
        auto& header = shared_.header();
        for (std::uint64_t round = 0; round < rounds; ++round) {
            if (idle) think();
            if (setup_.touched && !private_.empty()) fill(private_.data(), setup_.len, static_cast<char>(round));
            {
                Lock lock(header.mutex);
                if (!private_.empty())
                    std::memcpy(shared_.bytes(), private_.data(), setup_.len);
                else if (setup_.touched)
                    fill(shared_.bytes(), setup_.len, static_cast<char>(round));
                header.size = setup_.len;
                header.ready = true;
                header.ready_changed.notify_one();
                while (!header.processed) header.processed_changed.wait(lock);
                header.processed = false;
            }
            if (!idle) think();
            laps.lap();
        }
    }

    void answer(std::uint64_t rounds, const Think& think) {
        const bool idle = setup_.workload == "Idle";
        auto& header = shared_.header();
        std::size_t len = 0;
        const char* message = private_.empty() ? shared_.bytes() : private_.data();
        for (std::uint64_t round = 0; round < rounds; ++round) {
            Lock lock(header.mutex);
            while (!header.ready) header.ready_changed.wait(lock);
            header.ready = false;
            len = header.size;
            if (!private_.empty()) std::memcpy(private_.data(), shared_.bytes(), std::min(len, private_.size()));
            if (setup_.touched) sum(message, len);
            if (!idle) think();
            if (round + 1 == rounds) check(setup_, rounds, len, *message);
            header.processed = true;
            header.processed_changed.notify_one();
        }
    }

    Setup setup_;
    std::vector<char> private_;
    Shared<HandOffHeader> shared_;
};

struct Nothing {};

// A queue there, and a small one back.
class Queues : public Side {
public:
    explicit Queues(const Setup& setup) : setup_(setup), private_(setup.len, 1) {
        const Name there(setup.name + "-there"), back(setup.name + "-back");
        if (setup.ask) {
            const std::size_t messages = setup.workload == "OneWay" ? depth(setup.len) : 1;
            messages_.emplace(ipc::create_only, there.text(), messages, setup.len);
            answers_.emplace(ipc::create_only, back.text(), 1, SMALL);
        }
        Shared<Nothing>::meet(setup, 0, [&] {
            messages_.emplace(ipc::open_only, there.text());
            answers_.emplace(ipc::open_only, back.text());
        });
    }

    void rounds(std::uint64_t rounds, const Think& think, Laps& laps) override {
        const bool stream = setup_.workload == "OneWay", idle = setup_.workload == "Idle";
        char answer[SMALL] = {};
        ipc::message_queue::size_type len = 0;
        unsigned priority = 0;
        for (std::uint64_t round = 0; round < rounds; ++round) {
            if (setup_.ask) {
                if (idle) think();
                if (setup_.touched) fill(private_.data(), setup_.len, static_cast<char>(round));
                messages_->send(private_.data(), setup_.len, 0);
                if (!stream) answers_->receive(answer, SMALL, len, priority);
                if (!stream && !idle) think();
                laps.lap();
            } else {
                messages_->receive(private_.data(), setup_.len, len, priority);
                if (setup_.touched) sum(private_.data(), len);
                if (!stream && !idle) think();
                if (!stream) answers_->send(answer, SMALL, 0);
            }
        }
        if (!setup_.ask) check(setup_, rounds, len, private_[0]);
        if (stream && setup_.ask) answers_->receive(answer, SMALL, len, priority);
        if (stream && !setup_.ask) answers_->send(answer, SMALL, 0);
    }

private:
    // The fastest from 2 to 1,024, as measured from 64 B to 8 MiB: more leave the caches.
    static std::size_t depth(std::size_t len) { return std::clamp<std::size_t>((4u << 20) / len, 2, 1024); }

    Setup setup_;
    std::vector<char> private_;
    std::optional<ipc::message_queue> messages_, answers_;
};

struct LockHeader {
    alignas(CACHE_LINE) ipc::interprocess_mutex mutex;
    std::uint64_t value = 0;
};

class Locking : public Side {
public:
    explicit Locking(const Setup& setup) : setup_(setup), shared_(Shared<LockHeader>::meet(setup, 0)) {}

    void rounds(std::uint64_t rounds, const Think&, Laps& laps) override {
        if (!setup_.ask && setup_.workload == "Lock") return;
        auto& header = shared_.header();
        for (std::uint64_t round = 0; round < rounds; ++round) {
            {
                Lock lock(header.mutex);
                header.value += 1;
                escape(&header.value);
            }
            laps.lap();
        }
    }

private:
    Setup setup_;
    Shared<LockHeader> shared_;
};

// What is created, opened and closed: shared memory with the header of the hand-off.
class Lifecycle : public Side {
public:
    explicit Lifecycle(const Setup& setup) : setup_(setup), name_(setup.name + "-object") {
        if (!setup.ask && setup.workload != "Create") created_.emplace(name_.text(), setup.len);
        Shared<Nothing>::meet(setup, 0);
    }

    void rounds(std::uint64_t rounds, const Think&, Laps& laps) override {
        if (!setup_.ask) return;
        std::optional<Shared<HandOffHeader>> object;
        for (std::uint64_t round = 0; round < rounds; ++round) {
            if (setup_.workload == "Create") {
                laps.part([&] { object.emplace(name_.text(), setup_.len); });
                object.reset();
                name_.remove();
            } else if (setup_.workload == "Open") {
                laps.part([&] { object.emplace(name_.text()); });
                object.reset();
            } else {
                object.emplace(name_.text());
                laps.part([&] { object.reset(); });
            }
        }
    }

private:
    Setup setup_;
    Name name_;
    std::optional<Shared<HandOffHeader>> created_;
};

std::unique_ptr<Side> open(const std::string& transport, const Setup& setup) {
    const std::string& workload = setup.workload;
    if (workload == "Create" || workload == "Open" || workload == "Close") return std::make_unique<Lifecycle>(setup);
    if (transport == "hand-off") return std::make_unique<HandOff>(setup, false);
    if (transport == "in-place") return std::make_unique<HandOff>(setup, true);
    if (transport == "message-queue") return std::make_unique<Queues>(setup);
    if (transport == "mutex") return std::make_unique<Locking>(setup);
    throw std::runtime_error("there is no transport `" + transport + "` here");
}

std::uint64_t processor_time() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

std::uint64_t faults() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

void run(Side& side, bool idle, std::istream& order) {
    std::uint64_t warm, rounds, nanoseconds_of_thought, each;
    order >> warm >> rounds >> nanoseconds_of_thought >> each;
    if (!order) throw std::runtime_error("`run` takes four numbers");
    const std::chrono::nanoseconds thought(nanoseconds_of_thought);
    const Think think = [idle, thought] {
        if (idle) return std::this_thread::sleep_for(thought);
        if (thought.count() == 0) return;
        for (const auto start = Clock::now(); Clock::now() - start < thought;) {
        }
    };
    Laps warming(each == 1);
    side.rounds(warm, think, warming);
    const auto faults_before = faults(), processor_time_before = processor_time();
    const auto start = Clock::now();
    Laps laps(each == 1);
    side.rounds(rounds, think, laps);
    const auto time = nanoseconds(Clock::now() - start);
    const auto used = processor_time() - processor_time_before, mapped = faults() - faults_before;
    std::cout << "done " << laps.measured.value_or(time) << ' ' << used << ' ' << mapped << " 0 0";
    for (const auto sample : laps.samples) std::cout << ' ' << sample;
    std::cout << std::endl;
}

void obey(std::unique_ptr<Side>& side, const std::string& transport, Setup& setup, const std::string& line) {
    std::istringstream order(line);
    std::string verb;
    order >> verb;
    if (verb == "run" && side) return run(*side, setup.workload == "Idle", order);
    side.reset();
    if (verb == "open") {
        std::size_t count;
        bool asleep;
        std::string directory;
        order >> setup.workload >> setup.len >> setup.touched >> count >> asleep >> directory >> setup.name;
        if (!order) throw std::runtime_error("`" + line + "` opens nothing");
        side = open(transport, setup);
    } else if (verb != "close") {
        throw std::runtime_error("`" + line + "` is nothing to do here");
    }
    std::cout << "ready" << std::endl;
}

void serve(const std::string& transport, bool ask) {
    Setup setup{};
    setup.ask = ask;
    std::unique_ptr<Side> side;
    std::string line;
    while (std::getline(std::cin, line)) {
        try {
            obey(side, transport, setup, line);
        } catch (const ipc::interprocess_exception& error) {
            throw std::runtime_error(setup.workload + " in shared memory " + setup.name + ": " + error.what() +
                                     ": make room in /dev/shm, and remove what a killed run has left there");
        }
    }
}

int main(int argc, char** argv) {
    std::string why;
    try {
        if (argc != 3) throw std::runtime_error("it takes a transport and a role");
        serve(argv[1], std::string(argv[2]) == "ask");
        return 0;
    } catch (const std::exception& error) {
        why = error.what();
    }
    std::replace(why.begin(), why.end(), '\n', ' ');
    std::cout << "failed " << why << std::endl;
    return 1;
}
