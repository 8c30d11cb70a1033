{ print literal($0) }
