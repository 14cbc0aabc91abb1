#include "kernel/net/unix_endpoint.h"

#include <stdio.h>

#include "kernel/net/network_namespace.h"

namespace caisson::kernel {

void release_files(std::vector<FileRef> files) {
  static thread_local std::vector<FileRef>* t_waiting = nullptr;
  if (t_waiting != nullptr) {
    for (FileRef& file : files) t_waiting->push_back(std::move(file));
    return;
  }
  t_waiting = &files;
  while (!files.empty()) {
    const FileRef file = std::move(files.back());
    files.pop_back();
  }
  t_waiting = nullptr;
}

namespace {
std::atomic<long> g_in_flight{0};
}

Result<InFlight> InFlight::of(size_t files) {
  InFlight flight;
  if (files == 0) return flight;
  if (g_in_flight.fetch_add(static_cast<long>(files)) + static_cast<long>(files) > kMostInFlight) {
    g_in_flight -= static_cast<long>(files);
    return Errno(ETOOMANYREFS);
  }
  flight.count_ = static_cast<long>(files);
  return flight;
}

InFlight::~InFlight() { g_in_flight -= count_; }

void UnixEndpoint::drained() {
  std::vector<std::weak_ptr<UnixEndpoint>> told;
  UnixEndpointRef other;
  {
    std::lock_guard guard(lock);
    told.swap(senders);
    if (connection_oriented()) other = peer;
  }
  queue.wake(POLLOUT | POLLWRNORM);
  if (other) other->queue.wake(POLLOUT | POLLWRNORM);
  for (const auto& weak : told)
    if (const UnixEndpointRef sender = weak.lock()) sender->queue.wake(POLLOUT | POLLWRNORM);
}

UnixEndpoint::~UnixEndpoint() {
  if (address.length > 0) UnixNames::get().remove(*this);
}

void UnixEndpoint::close() {
  std::deque<UnixMessage> unread;
  std::deque<UnixEndpointRef> unaccepted;
  UnixEndpointRef other;
  InodeRef bound;
  {
    std::lock_guard guard(lock);
    if (state == State::Closed) return;
    state = State::Closed;
    read_shut = write_shut = true;
    unread.swap(messages);
    bytes = 0;
    unaccepted.swap(pending);
    senders.clear();
    other.swap(peer);
    bound.swap(place);
  }
  if (address.length > 0) UnixNames::get().remove(*this);
  if (other && connection_oriented()) {
    std::lock_guard guard(other->lock);
    if (other->peer.get() == this) {
      other->peer.reset();
      other->peer_gone = true;
      other->read_shut = other->write_shut = true;
      // What it sent has been lost.
      if (!unread.empty()) other->error = ECONNRESET;
    }
  }
  if (other) other->queue.wake(POLLIN | POLLOUT | POLLHUP | POLLRDHUP | POLLRDNORM | POLLWRNORM);
  queue.wake(POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
  std::vector<FileRef> files;
  for (UnixMessage& message : unread)
    for (FileRef& file : message.files) files.push_back(std::move(file));
  unread.clear();
  for (const UnixEndpointRef& endpoint : unaccepted) {
    UnixEndpointRef client;
    {
      std::lock_guard guard(endpoint->lock);
      client = endpoint->peer;
    }
    if (client) {
      // It hears of it as of a reset.
      std::lock_guard guard(client->lock);
      client->error = ECONNRESET;
    }
    endpoint->close();
  }
  release_files(std::move(files));
}

UnixNames& UnixNames::get() {
  static UnixNames* const names = new UnixNames;
  return *names;
}

UnixNames::AbstractKey UnixNames::key_of(const NetworkNamespace& network, std::string name) { return {network.number, std::move(name)}; }

Result<void> UnixNames::add_abstract(std::string name, const UnixEndpointRef& endpoint) {
  std::lock_guard guard(lock_);
  auto [entry, added] = abstract_.try_emplace(key_of(*endpoint->network, std::move(name)), Entry{endpoint.get(), endpoint});
  if (!added) return Errno(EADDRINUSE);
  return {};
}

Result<std::string> UnixNames::add_automatic(const UnixEndpointRef& endpoint) {
  std::lock_guard guard(lock_);
  for (uint32_t tries = 0; tries < 0x100000; ++tries) {
    char name[8];
    snprintf(name, sizeof name, "%05x", next_automatic_++ & 0xfffff);
    if (abstract_.try_emplace(key_of(*endpoint->network, name), Entry{endpoint.get(), endpoint}).second) return std::string(name);
  }
  return Errno(ENOSPC);
}

void UnixNames::add_inode(const struct statx& stat, const UnixEndpointRef& endpoint) {
  std::lock_guard guard(lock_);
  inodes_[{stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino}] = Entry{endpoint.get(), endpoint};
}

UnixEndpointRef UnixNames::find_abstract(const NetworkNamespace& network, const std::string& name) {
  std::lock_guard guard(lock_);
  auto found = abstract_.find(key_of(network, name));
  return found == abstract_.end() ? nullptr : found->second.endpoint.lock();
}

UnixEndpointRef UnixNames::find_inode(const struct statx& stat) {
  std::lock_guard guard(lock_);
  auto found = inodes_.find({stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino});
  return found == inodes_.end() ? nullptr : found->second.endpoint.lock();
}

void UnixNames::remove(UnixEndpoint& endpoint) {
  std::lock_guard guard(lock_);
  std::erase_if(abstract_, [&](const auto& entry) { return entry.second.key == &endpoint; });
  std::erase_if(inodes_, [&](const auto& entry) { return entry.second.key == &endpoint; });
}

}  // namespace caisson::kernel
